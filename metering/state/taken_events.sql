-- One event of a touched snapshot or VM: new, or known before.
FROM new_events
WHERE type <> 'event.retracted'
UNION ALL BY NAME
FROM known_events
