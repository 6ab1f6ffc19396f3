-- One identity that a new event retracts.
SELECT DISTINCT retracted_high AS event_high, retracted_low AS event_low, retracted_source AS source, retracted_id AS id
FROM new_events
WHERE type = 'event.retracted'
