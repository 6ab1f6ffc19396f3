-- one row per line that this run adds to the quarantine, as the lake stores it
SELECT n.id, r.batch, r.ingested_at, f.name AS file, n.line - n.first + 1 AS line, b.reason, b.message, b.raw,
       b.source, b.event_id, b.subject, b.account_id
FROM new_bad_lines n
JOIN bad_lines b ON b.line = n.line
JOIN files f ON f.first = n.first
CROSS JOIN run r
ORDER BY n.line
