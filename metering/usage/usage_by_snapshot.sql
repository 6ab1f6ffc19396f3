-- One snapshot in one period in which it was metered, as people read it: size_bytes is the last in the period,
-- ended_at is empty while the snapshot lives. Only of the few that were resized is there anything to add up.
WITH used AS (
    SELECT
        month, period_start, period_end, account_id, project_id, region, sku, snapshot_id, name, size_bytes,
        ready_at, ended_at, byte_micros
    FROM stretch_usage
    WHERE is_whole = 1
    UNION ALL
    SELECT
        month, period_start, period_end, account_id, project_id, region, sku, snapshot_id, name,
        max_by(size_bytes, used_from) AS size_bytes, ready_at, ended_at, sum(byte_micros) AS byte_micros
    FROM stretch_usage
    WHERE is_whole = 0
    GROUP BY
        month, period_start, period_end, account_id, project_id, region, sku, snapshot_id, name, ready_at, ended_at
)
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
    size_bytes,
    ready_at,
    CASE WHEN ended_at <= now_us THEN ended_at END AS ended_at,
    CAST(byte_micros AS DECIMAL(38, 0)) AS byte_micros
FROM used
CROSS JOIN scope
