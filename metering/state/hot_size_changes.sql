-- One size change of a snapshot that can still change.
SELECT 0 AS segment, CAST(0 AS UBIGINT) AS owner, size_changes.*
FROM size_changes
ANTI JOIN settled USING (subject_high, subject_low)
