-- one row per bad line of this run: its file, and the key that it has in the quarantine
-- The key is made of the bytes and of how often they stood in the file before, so that the same line read again,
-- from whatever file, has the same key.
WITH hashed AS (
    SELECT b.line, b.reason, f.first, sha256(b.raw) AS digest
    FROM bad_lines b
    ASOF JOIN files f ON b.line >= f.first
), counted AS (
    SELECT *, row_number() OVER (PARTITION BY first, digest ORDER BY line) AS occurrence FROM hashed
)
SELECT left(sha256(concat(digest, ':', occurrence)), 24) AS id, line, reason, first
FROM counted
