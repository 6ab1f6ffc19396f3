-- One stretch of a chosen snapshot in one period.
SELECT stretch_usage.*
FROM stretch_usage
SEMI JOIN chosen_snapshots USING (snapshot_id)
