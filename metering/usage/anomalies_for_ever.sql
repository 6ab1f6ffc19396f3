-- One anomaly that is the same whenever somebody asks.
SELECT * FROM anomaly_end_before_ready
UNION ALL
SELECT * FROM anomaly_ready_twice
UNION ALL
SELECT * FROM anomaly_ready_after_end
UNION ALL
SELECT * FROM anomaly_end_without_ready
UNION ALL
SELECT * FROM anomaly_resized_outside_lifespan
