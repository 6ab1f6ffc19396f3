-- One event that counts as never sent, by the key of its source and id.
-- Computed once.
SELECT retracted_high AS event_high, retracted_low AS event_low
FROM events
WHERE type = 'event.retracted'
