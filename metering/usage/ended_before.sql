-- One event that ended a snapshot at or before the horizon: nothing of it is asked for.
SELECT subject_high, subject_low
FROM end_events
CROSS JOIN horizon
WHERE time <= from_us
