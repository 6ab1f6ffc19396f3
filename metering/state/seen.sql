-- One event that is known and that a retraction names: it is gone, and will not come again.
SELECT event_high, event_low
FROM events
SEMI JOIN (
    SELECT retracted_high AS event_high, retracted_low AS event_low
    FROM events
    WHERE type = 'event.retracted'
) AS named USING (event_high, event_low)
UNION
SELECT event_high, event_low FROM targets
