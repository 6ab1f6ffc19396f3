-- One event, known before, of a touched snapshot or VM.
FROM held_events
UNION ALL BY NAME
FROM recalled_events
