-- one row per bad line of this run, with the key that it has in the quarantine
-- The key is made of the bytes and of how often they stood in the file before, so that the same line read again,
-- from whatever file, has the same key.
WITH bad AS (
    SELECT b.seq, b.file_no, b.line, b.reason, b.message, b.raw,
           NULL AS source, NULL AS event_id, NULL AS subject, NULL AS account_id
    FROM read_faults b
    SEMI JOIN files f ON b.file_no = f.file_no
    UNION ALL
    SELECT seq, file_no, line, reason, message, raw, source, event_id, subject, account_id FROM conflicts
), hashed AS (
    SELECT *, sha256(raw) AS digest FROM bad
), counted AS (
    SELECT *, row_number() OVER (PARTITION BY file_no, digest ORDER BY line) AS occurrence FROM hashed
)
SELECT left(sha256(concat(digest, ':', occurrence)), 24) AS id,
       seq, file_no, line, reason, message, raw, source, event_id, subject, account_id
FROM counted
