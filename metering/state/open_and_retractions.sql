-- One event of what can still change, or a retraction.
SELECT open_events.* EXCLUDE (segment, due_at)
FROM open_events
UNION ALL BY NAME
FROM known_retractions
