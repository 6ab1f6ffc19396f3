-- One snapshot in one period in which it was metered; a snapshot of zero bytes counts with zero usage.
SELECT
    month,
    period_start,
    period_end,
    account_id,
    project_id,
    region,
    sku,
    snapshot_id,
    CAST(sum(byte_micros) AS DECIMAL(38, 0)) AS byte_micros
FROM stretch_usage
GROUP BY month, period_start, period_end, account_id, project_id, region, sku, snapshot_id
