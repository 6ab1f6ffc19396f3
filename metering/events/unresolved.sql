-- one row per quarantined line that nobody put aside; raw is text, with \xNN for bytes that are not UTF-8
SELECT q.id, q.batch, q.file, q.line, q.reason, q.message,
       coalesce(TRY(decode(q.raw)), CAST(q.raw AS VARCHAR)) AS raw
FROM quarantine q
ANTI JOIN quarantine_resolutions r ON r.id = q.id
ORDER BY q.batch, q.file, q.line, q.id
