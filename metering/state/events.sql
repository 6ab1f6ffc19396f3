-- One event that the new state is made of: held before, new, or called back from the archive.
SELECT * FROM held_events
UNION ALL
SELECT * FROM new_events
UNION ALL
SELECT * FROM recalled_events
