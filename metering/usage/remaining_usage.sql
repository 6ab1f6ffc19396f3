-- One account × SKU × region in one period: what it would still use from now to the period's end, if all that
-- is alive now stayed alive at its present size. To be added to account_usage.
SELECT
    month,
    period_start,
    period_end,
    account_id,
    sku,
    region,
    CAST(
        sum(
            CAST(size_bytes AS DECIMAL(20, 0))
            * CAST(period_end - greatest(now_us, period_start) AS DECIMAL(17, 0))
        ) AS DECIMAL(38, 0)
    ) AS byte_micros,
    count(*) AS snapshots
FROM alive
CROSS JOIN scope
JOIN periods ON period_end > now_us
GROUP BY month, period_start, period_end, account_id, sku, region
