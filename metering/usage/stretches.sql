-- One stretch of constant size in a metered snapshot's lifespan; the stretches of a snapshot do not overlap.
-- A snapshot that was never resized finds no size_changes: its lifespan is its one stretch, and whole.
SELECT
    subject_high,
    subject_low,
    snapshot_id,
    stretch_start,
    stretch_end,
    size_bytes,
    account_id,
    project_id,
    region,
    sku,
    name,
    ready_at,
    ended_at,
    is_whole
FROM (
    SELECT
        names.subject_high,
        names.subject_low,
        names.snapshot_id,
        CASE WHEN changed_at > ready_at THEN changed_at ELSE ready_at END AS stretch_start,
        CASE
            WHEN next_changed_at IS NULL OR ended_at <= next_changed_at THEN ended_at
            ELSE next_changed_at
        END AS stretch_end,
        CASE WHEN changed_at >= ready_at THEN size_changes.size_bytes ELSE names.size_bytes END AS size_bytes,
        account_id,
        project_id,
        region,
        sku,
        name,
        ready_at,
        ended_at,
        CAST(CASE WHEN changed_at IS NULL AND next_changed_at IS NULL THEN 1 ELSE 0 END AS BIGINT) AS is_whole
    FROM names
    LEFT JOIN size_changes
        ON size_changes.subject_high = names.subject_high AND size_changes.subject_low = names.subject_low
) AS cut
WHERE stretch_end IS NULL OR stretch_start < stretch_end
