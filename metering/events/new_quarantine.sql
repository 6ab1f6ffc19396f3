-- one row per bad line of this run that the quarantine does not hold yet
SELECT b.id, r.batch, r.ingested_at, f.name AS file, b.line, b.reason, b.message, b.raw,
       b.source, b.event_id, b.subject, b.account_id
FROM bad_lines b
JOIN files f ON f.file_no = b.file_no
CROSS JOIN run r
ANTI JOIN quarantine q ON q.id = b.id
QUALIFY row_number() OVER (PARTITION BY b.id ORDER BY b.seq) = 1
ORDER BY b.seq
