-- One lasting anomaly, as the state has it; see anomalies_for_ever.
SELECT kind, snapshot_id, account_id, occurred_at, detail
FROM stored_anomalies
ANTI JOIN superseded USING (segment, subject_high)
