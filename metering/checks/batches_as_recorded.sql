-- One batch whose rows the manifest dates or numbers otherwise, or that a close counted and that is not there.
SELECT DISTINCT 'batch ' || r.batch || ' of ' || r.ingested_at || ' is not so in the manifest' AS detail
FROM (SELECT batch, ingested_at FROM events UNION SELECT batch, ingested_at FROM quarantine) AS r
ANTI JOIN batches AS b ON b.batch = r.batch AND b.ingested_at = r.ingested_at
UNION ALL
SELECT 'the close of ' || c.month || ' counted events up to batch ' || c.events_through || ', which is not in the lake'
FROM closes AS c
ANTI JOIN batches AS b ON b.batch = c.events_through
WHERE c.events_through > 0
