-- One snapshot that has been creating for 24 hours or longer and neither became ready nor ended.
WITH creating AS (
    SELECT subject_high, subject_low, min(subject) AS snapshot_id, min(time) AS creating_at
    FROM lifecycle
    WHERE type = 'snapshot.creating'
    GROUP BY subject_high, subject_low
),
outcomes AS (
    SELECT subject_high, subject_low
    FROM lifecycle
    WHERE type = 'snapshot.ready'
    UNION ALL
    SELECT subject_high, subject_low
    FROM end_events
)
SELECT
    'stuck_creating' AS kind,
    snapshot_id,
    CAST(NULL AS STRING) AS account_id,
    creating_at AS occurred_at,
    'Creating for 24 hours or longer, and neither ready nor failed.' AS detail
FROM creating
ANTI JOIN outcomes USING (subject_high, subject_low)
CROSS JOIN scope
WHERE creating_at <= now_us - 86400000000
