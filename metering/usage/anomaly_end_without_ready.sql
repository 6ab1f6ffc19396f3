-- One end of a snapshot that never became ready; a capture that failed after creating is the regular way.
WITH ended AS (
    SELECT subject AS snapshot_id, type, time, source, id
    FROM end_events
),
never_ready AS (
    SELECT ended.*
    FROM ended
    ANTI JOIN lifespans USING (snapshot_id)
),
creating AS (
    SELECT DISTINCT subject AS snapshot_id
    FROM lifecycle
    WHERE type = 'snapshot.creating'
)
SELECT
    'end_without_ready' AS kind,
    never_ready.snapshot_id,
    CAST(NULL AS STRING) AS account_id,
    time AS occurred_at,
    type || ' by event ' || id || ' of ' || source || ', yet it never became ready.' AS detail
FROM never_ready
LEFT JOIN creating ON creating.snapshot_id = never_ready.snapshot_id
WHERE type <> 'snapshot.failed' OR creating.snapshot_id IS NULL
