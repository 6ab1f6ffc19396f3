-- one row per line that says something else than the event that holds its identity
SELECT s.line, 'conflict' AS reason,
       concat('The same source and id came first with another ', r.differs, ' (',
           CASE WHEN r.first_batch IS NOT NULL THEN concat('batch ', r.first_batch)
                ELSE concat(f.name, ', line ', r.first_line - f.first + 1) END,
           '); that one counts.') AS message,
       s.raw, s.source, s.id AS event_id, s.subject, s.account_id
FROM repeats r
JOIN suspects s ON s.line = r.line
LEFT JOIN files f ON r.first_line >= f.first AND r.first_line < f.last
WHERE r.differs <> ''
