-- One snapshot that was deleted or failed after the horizon: its earliest such event.
SELECT subject_high, subject_low, min(time) AS ended_at
FROM lifecycle
CROSS JOIN horizon
WHERE type BETWEEN 'snapshot.deleted' AND 'snapshot.failed' AND time > from_us
GROUP BY subject_high, subject_low
