-- One lasting anomaly of a snapshot of the folder that is being written.
SELECT segment, owner, anomalies_for_ever.*
FROM anomalies_for_ever
JOIN moving ON moving.snapshot_id = anomalies_for_ever.snapshot_id
CROSS JOIN target
ORDER BY owner
