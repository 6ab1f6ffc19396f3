-- One newly quarantined line of the first few, with its place and why.
SELECT file, line, reason, message
FROM new_quarantine
ORDER BY file, line, reason, message
LIMIT ?
