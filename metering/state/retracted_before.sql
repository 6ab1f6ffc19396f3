-- One event that had been retracted before a new event retracted it again.
SELECT retracted_source AS source, retracted_id AS id
FROM past_events
WHERE type = 'event.retracted'
