-- One snapshot in one month of usage: its usage on all issued lines that count.
SELECT
    l.month,
    l.account_id,
    a.project_id,
    l.region,
    l.sku,
    a.snapshot_id,
    CAST(sum(a.byte_micros) AS DECIMAL(38, 0)) AS byte_micros,
    max(abs(a.byte_micros)) = 0 OR sum(a.byte_micros) <> 0 AS is_billed
FROM issued AS l
JOIN allocations AS a ON a.invoice = l.invoice AND a.line = l.line
GROUP BY l.month, l.account_id, a.project_id, l.region, l.sku, a.snapshot_id
