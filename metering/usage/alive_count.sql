-- One row: how many snapshots are alive now.
SELECT count(*) AS snapshots
FROM alive
