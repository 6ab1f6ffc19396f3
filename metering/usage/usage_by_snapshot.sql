-- One snapshot in one period in which it was metered, as people read it: size_bytes is the last in the period,
-- ended_at is empty while the snapshot lives.
WITH used AS (
    SELECT
        month,
        period_start,
        period_end,
        account_id,
        project_id,
        region,
        sku,
        snapshot_id,
        subject_high,
        subject_low,
        ready_at,
        ended_at,
        max_by(size_bytes, used_from) AS size_bytes,
        CAST(sum(byte_micros) AS DECIMAL(38, 0)) AS byte_micros
    FROM stretch_usage
    GROUP BY
        month,
        period_start,
        period_end,
        account_id,
        project_id,
        region,
        sku,
        snapshot_id,
        subject_high,
        subject_low,
        ready_at,
        ended_at
)
SELECT
    month,
    period_start,
    period_end,
    account_id,
    project_id,
    region,
    sku,
    used.snapshot_id,
    names.name,
    size_bytes,
    ready_at,
    CASE WHEN ended_at <= now_us THEN ended_at END AS ended_at,
    byte_micros
FROM used
JOIN names ON names.subject_high = used.subject_high AND names.subject_low = used.subject_low
CROSS JOIN scope
