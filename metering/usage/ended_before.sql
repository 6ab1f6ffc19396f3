-- One event that ended a snapshot at or before the horizon: nothing of it is asked for.
SELECT subject_high, subject_low
FROM lifecycle
CROSS JOIN horizon
WHERE type IN ('snapshot.deleted', 'snapshot.failed') AND time <= from_us
