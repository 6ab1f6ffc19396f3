-- One snapshot that has been creating for 24 hours or longer and neither became ready nor ended.
WITH fates AS (
    SELECT
        subject AS snapshot_id,
        min(CASE WHEN type = 'snapshot.creating' THEN time END) AS creating_at,
        count(CASE WHEN type <> 'snapshot.creating' THEN 1 END) AS outcomes
    FROM lifecycle
    WHERE type IN ('snapshot.creating', 'snapshot.ready', 'snapshot.failed', 'snapshot.deleted')
    GROUP BY subject
)
SELECT
    'stuck_creating' AS kind,
    snapshot_id,
    CAST(NULL AS STRING) AS account_id,
    creating_at AS occurred_at,
    'Creating for 24 hours or longer, and neither ready nor failed.' AS detail
FROM fates
CROSS JOIN scope
WHERE outcomes = 0 AND creating_at <= now_us - 86400000000
