-- One lifespan of a snapshot that can still change.
SELECT *
FROM stored_changing
ANTI JOIN superseded USING (segment, subject_high)
