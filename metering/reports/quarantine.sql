-- One bad line that nobody has put aside, as text: where it is no UTF-8, what is not printable ASCII stands as \xNN.
SELECT
    q.id,
    q.batch,
    q.file,
    q.line,
    q.reason,
    q.message,
    coalesce(
        TRY(decode(q.raw)), replace(replace(CAST(q.raw AS VARCHAR), '\x22', '"'), '\x27', '''')
    ) AS raw
FROM quarantine AS q
WHERE q.id NOT IN (SELECT id FROM quarantine_resolutions)
ORDER BY q.batch, q.file, q.line, q.id
