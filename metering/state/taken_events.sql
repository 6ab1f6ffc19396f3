-- One event of a touched snapshot or VM: new, or known before. Where a batch is taken in by parts, what is recalled of
-- it for a VM may be new of a snapshot of the same id.
FROM new_events
WHERE type <> 'event.retracted'
UNION ALL BY NAME
FROM known_events
ANTI JOIN new_events USING (event_high, event_low)
