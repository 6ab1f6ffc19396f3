-- One retraction that a later night still needs: its event has not been seen, or it is dated after now.
SELECT events.*
FROM events
CROSS JOIN scope
LEFT JOIN seen ON seen.event_high = retracted_high AND seen.event_low = retracted_low
WHERE type = 'event.retracted' AND (time > now_us OR seen.event_high IS NULL)
