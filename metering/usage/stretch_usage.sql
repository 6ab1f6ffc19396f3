-- One stretch in one period, as far as it lies there and before now: bytes × microseconds.
-- snapshots is 1 on the first of a snapshot's stretches in the period, so that its sum counts each snapshot once.
SELECT
    month,
    period_start,
    period_end,
    account_id,
    project_id,
    region,
    sku,
    snapshot_id,
    name,
    subject_high,
    subject_low,
    used_from,
    used_until,
    size_bytes,
    CAST(size_bytes AS DECIMAL(20, 0)) * CAST(used_until - used_from AS DECIMAL(17, 0)) AS byte_micros,
    CASE WHEN used_from = greatest(ready_at, period_start) THEN 1 ELSE 0 END AS snapshots,
    ready_at,
    ended_at,
    is_whole
FROM (
    SELECT
        past.*,
        month,
        period_start,
        period_end,
        greatest(stretch_start, period_start) AS used_from,
        least(past_end, period_end) AS used_until
    FROM (
        SELECT stretches.*, least(coalesce(stretch_end, now_us), now_us) AS past_end
        FROM stretches
        CROSS JOIN scope
    ) AS past
    JOIN periods ON stretch_start < period_end AND past_end > period_start
) AS clipped
WHERE used_from < used_until
