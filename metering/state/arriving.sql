-- One event that is new, or that a new event retracts: what it is about must be computed again.
SELECT type, subject, time, resource_type, resource_id FROM new_events
UNION ALL
SELECT type, subject, time, resource_type, resource_id FROM targets
