-- One snapshot on one invoice line: its usage there; on an adjustment only where it changed since it was billed.
WITH known AS (
    SELECT u.month, u.account_id, u.sku, u.region, r.price_per_gb_hour, u.project_id, u.snapshot_id,
           sum(u.byte_micros) AS byte_micros
    FROM snapshot_usage AS u
    JOIN rated AS r
        ON r.month = u.month AND r.period_start = u.period_start AND r.account_id = u.account_id
        AND r.sku = u.sku AND r.region = u.region
    GROUP BY ALL
),
billed AS (
    SELECT l.month, l.account_id, l.sku, l.region, l.price_per_gb_hour, s.project_id, s.snapshot_id,
           sum(s.byte_micros) AS byte_micros
    FROM issued_shares AS s
    JOIN issued_lines AS l ON l.invoice = s.invoice AND l.line = s.line
    GROUP BY ALL
),
changes AS (
    SELECT month, account_id, sku, region, price_per_gb_hour, project_id, snapshot_id,
           sum(byte_micros) AS byte_micros
    FROM (SELECT * FROM known UNION ALL (SELECT * REPLACE (-byte_micros AS byte_micros) FROM billed))
    GROUP BY ALL
)
SELECT
    l.invoice,
    l.line,
    l.account_id,
    c.project_id,
    c.snapshot_id,
    CAST(c.byte_micros AS DECIMAL(38, 0)) AS byte_micros,
    l.currency,
    l.amount_minor
FROM lines AS l
JOIN changes AS c
    ON c.month = l.month AND c.account_id = l.account_id AND c.sku = l.sku AND c.region = l.region
    AND c.price_per_gb_hour = l.price_per_gb_hour
WHERE l.kind = 'usage' OR c.byte_micros <> 0
ORDER BY l.invoice, l.line, c.project_id, c.snapshot_id
