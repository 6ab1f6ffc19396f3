-- One event that ended a snapshot at or before the horizon: nothing of it is asked for.
-- No other type lies between the two, and unlike IN the scan itself tests BETWEEN.
SELECT subject_high, subject_low
FROM lifecycle
CROSS JOIN horizon
WHERE type BETWEEN 'snapshot.deleted' AND 'snapshot.failed' AND time <= from_us
