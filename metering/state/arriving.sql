-- One event that is new, or that a new event retracts: what it is about must be computed again.
SELECT type, subject_high, time
FROM (SELECT type, subject_high, time FROM new_events UNION ALL SELECT type, subject_high, time FROM targets) AS changing
WHERE type <> 'event.retracted'
