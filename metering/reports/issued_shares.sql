-- One snapshot in one month of usage: its usage on all issued lines that count.
-- Only where several lines are about one key (other prices, adjustments) is there anything to add up.
-- The places are those of month and account, and of region and SKU, in their order: integers, which sort faster.
WITH lines AS (
    SELECT
        invoice, line, month, account_id, region, sku,
        count(*) OVER (PARTITION BY month, account_id, region, sku) AS lines_of_key,
        dense_rank() OVER (ORDER BY month, account_id) AS account_place,
        dense_rank() OVER (ORDER BY region, sku) AS sku_place
    FROM issued
)
SELECT
    l.month, l.account_id, a.project_id, l.region, l.sku, a.snapshot_id, a.byte_micros, TRUE AS is_billed,
    l.account_place, l.sku_place
FROM lines AS l
JOIN allocations AS a ON a.invoice = l.invoice AND a.line = l.line
WHERE l.lines_of_key = 1
UNION ALL
SELECT
    l.month,
    l.account_id,
    a.project_id,
    l.region,
    l.sku,
    a.snapshot_id,
    CAST(sum(a.byte_micros) AS DECIMAL(38, 0)) AS byte_micros,
    max(abs(a.byte_micros)) = 0 OR sum(a.byte_micros) <> 0 AS is_billed,
    l.account_place,
    l.sku_place
FROM lines AS l
JOIN allocations AS a ON a.invoice = l.invoice AND a.line = l.line
WHERE l.lines_of_key > 1
GROUP BY l.month, l.account_id, a.project_id, l.region, l.sku, a.snapshot_id, l.account_place, l.sku_place
