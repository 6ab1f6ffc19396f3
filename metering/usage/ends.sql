-- One snapshot that was deleted or failed after the horizon: its earliest such event.
SELECT subject_high, subject_low, min(time) AS ended_at
FROM end_events
CROSS JOIN horizon
WHERE time > from_us
GROUP BY subject_high, subject_low
