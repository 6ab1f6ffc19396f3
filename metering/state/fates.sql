-- One snapshot with events that count: its latest one, and its own earliest end.
SELECT
    subject_high,
    subject_low,
    min(subject) AS snapshot_id,
    max(time) AS last_at,
    min(CASE WHEN type IN ('snapshot.deleted', 'snapshot.failed') THEN time END) AS own_end
FROM lifecycle
WHERE type LIKE 'snapshot.%'
GROUP BY subject_high, subject_low
