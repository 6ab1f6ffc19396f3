-- One chosen snapshot that became ready, with its name.
SELECT n.snapshot_id, n.name
FROM names AS n
SEMI JOIN chosen_snapshots USING (snapshot_id)
