-- One event that had been retracted before a new event retracted it again.
SELECT retracted_high AS event_high, retracted_low AS event_low
FROM earlier_events
WHERE type = 'event.retracted'
