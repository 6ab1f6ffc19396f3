-- One resize that has no effect: before ready, at or after the end, or of a snapshot that never became ready.
SELECT
    'resized_outside_lifespan' AS kind,
    resized.subject AS snapshot_id,
    account_id,
    time AS occurred_at,
    'Resized by event ' || id || ' of ' || source
    || CASE
        WHEN ready_at IS NULL THEN ', yet it never became ready.'
        WHEN time < ready_at THEN ', before it became ready.'
        ELSE ', at or after its end.'
    END AS detail
FROM (
    SELECT subject, time, source, id
    FROM lifecycle
    WHERE type = 'snapshot.resized'
) AS resized
LEFT JOIN lifespans ON lifespans.snapshot_id = resized.subject
WHERE ready_at IS NULL OR time < ready_at OR time >= ended_at
