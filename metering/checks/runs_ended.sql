-- One run that ended before it began, or brought a batch of another time, or that another run brought too.
SELECT 'run ' || run || ' ended before it began' AS detail FROM runs WHERE ended_at < started_at
UNION ALL
SELECT 'run ' || run || ' has ended without exit code, or the other way round'
FROM runs WHERE (ended_at IS NULL) <> (exit_code IS NULL) OR exit_code NOT IN (0, 1, 2, 3, 75)
UNION ALL
SELECT 'runs do not count from 1 without gaps' FROM runs HAVING count(*) <> coalesce(max(run), 0)
UNION ALL
SELECT 'run ' || r.run || ' brought batch ' || r.batch || ', which is not in the lake or of another time'
FROM runs AS r
ANTI JOIN batches AS b ON b.batch = r.batch AND b.ingested_at = r.started_at
WHERE r.batch IS NOT NULL
UNION ALL
SELECT 'batch ' || batch || ' was brought by ' || count(*) || ' runs'
FROM runs WHERE batch IS NOT NULL GROUP BY batch HAVING count(*) > 1
