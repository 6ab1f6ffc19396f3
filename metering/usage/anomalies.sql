-- One anomaly: what was reported and neither repaired nor guessed.
SELECT * FROM anomalies_for_ever
UNION ALL
SELECT * FROM anomaly_unknown_account
UNION ALL
SELECT * FROM anomaly_no_price
UNION ALL
SELECT * FROM anomaly_stuck_creating
UNION ALL
SELECT * FROM anomaly_future_event
UNION ALL
SELECT * FROM anomaly_conflict
