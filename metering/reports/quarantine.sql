-- One bad line that nobody has put aside.
SELECT q.id, q.batch, q.file, q.line, q.reason, q.message, q.raw
FROM quarantine AS q
WHERE q.id NOT IN (SELECT id FROM quarantine_resolutions)
ORDER BY q.batch, q.file, q.line, q.id
