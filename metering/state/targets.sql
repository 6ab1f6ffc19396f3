-- One event that a new event retracts.
SELECT source, id, type, subject, time, resource_type, resource_id
FROM (SELECT * FROM new_events UNION ALL SELECT * FROM past_events) AS searched
SEMI JOIN retractions USING (source, id)
