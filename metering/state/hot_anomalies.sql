-- One anomaly, whatever the time, of a snapshot that can still change.
SELECT 0 AS segment, hash(snapshot_id) AS owner, anomalies_for_ever.*
FROM anomalies_for_ever
ANTI JOIN settled USING (snapshot_id)
