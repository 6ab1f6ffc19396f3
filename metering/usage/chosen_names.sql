-- One chosen snapshot that became ready, with its name.
SELECT names.snapshot_id, names.name
FROM names
SEMI JOIN chosen_snapshots USING (snapshot_id)
