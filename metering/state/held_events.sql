-- One event of a touched snapshot or VM that could still change.
SELECT open_events.* EXCLUDE (segment, due_at)
FROM open_events
SEMI JOIN touched_open USING (segment, subject_high)
