-- One retraction that a later night still needs: its event has not been seen, or it is dated after now.
SELECT events.*
FROM events
CROSS JOIN scope
LEFT JOIN seen ON seen.source = retracted_source AND seen.id = retracted_id
WHERE type = 'event.retracted' AND (time > now_us OR seen.id IS NULL)
