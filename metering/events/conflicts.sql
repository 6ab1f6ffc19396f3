-- one row per line that says something else than the event that holds its identity
SELECT c.seq, c.file_no, c.line, 'conflict' AS reason,
       concat('The same source and id came first with another ', r.differs, ' (',
           CASE WHEN r.first_batch IS NOT NULL THEN concat('batch ', r.first_batch)
                ELSE concat(f.name, ', line ', o.line) END,
           '); that one counts.') AS message,
       encode(c.raw) AS raw, c.source, c.id AS event_id, c.subject, c.account_id
FROM repeats r
JOIN candidates c ON c.seq = r.seq
LEFT JOIN candidates o ON o.seq = r.first_seq
LEFT JOIN files f ON f.file_no = o.file_no
WHERE r.differs <> ''
