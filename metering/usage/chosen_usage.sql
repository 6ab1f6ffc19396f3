-- One account × SKU × region in one period, of chosen accounts in chosen months.
SELECT
    month,
    period_start,
    period_end,
    account_id,
    sku,
    region,
    CAST(sum(byte_micros) AS DECIMAL(38, 0)) AS byte_micros,
    CAST(sum(snapshots) AS BIGINT) AS snapshots
FROM stretch_usage
SEMI JOIN chosen_pairs USING (month, account_id)
GROUP BY month, period_start, period_end, account_id, sku, region
