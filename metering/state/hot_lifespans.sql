-- One lifespan of a snapshot that can still change.
SELECT 0 AS segment, hash(snapshot_id) AS owner, lifespans.*
FROM lifespans
ANTI JOIN settled USING (subject_high, subject_low)
