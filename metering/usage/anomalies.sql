-- One anomaly: what was reported and neither repaired nor guessed.
SELECT * FROM anomaly_end_before_ready
UNION ALL
SELECT * FROM anomaly_ready_twice
UNION ALL
SELECT * FROM anomaly_ready_after_end
UNION ALL
SELECT * FROM anomaly_end_without_ready
UNION ALL
SELECT * FROM anomaly_resized_outside_lifespan
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
