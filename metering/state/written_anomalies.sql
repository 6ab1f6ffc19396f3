-- One lasting anomaly of a snapshot of a folder that is being written.
SELECT segment, subject_high, anomalies_for_ever.*
FROM anomalies_for_ever
JOIN moving ON NOT is_vm AND subject = snapshot_id
