-- One anomaly of a snapshot that is being archived.
SELECT segment, owner, anomalies_for_ever.*
FROM anomalies_for_ever
JOIN moving ON moving.snapshot_id = anomalies_for_ever.snapshot_id
CROSS JOIN target
ORDER BY owner
