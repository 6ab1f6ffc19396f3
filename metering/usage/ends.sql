-- One snapshot that was deleted or failed: its earliest such event.
SELECT subject AS snapshot_id, min(time) AS ended_at
FROM lifecycle
WHERE type IN ('snapshot.deleted', 'snapshot.failed')
GROUP BY subject
