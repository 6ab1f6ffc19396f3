-- One snapshot or VM that must be computed again: an arriving event is about it, or its time has come.
SELECT subject_high FROM arriving
UNION
SELECT subject_high
FROM open_events
CROSS JOIN scope
WHERE due_at <= now_us
