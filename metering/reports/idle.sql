-- One snapshot that has been alive for longer than the days asked for, the dearest of each currency first.
WITH idle AS (
    SELECT a.*, (asked.now_us - a.ready_at) // 86400000000 AS age_days
    FROM asked
    JOIN alive AS a
        ON asked.now_us - a.ready_at > asked.days * 86400000000
        AND (asked.account_id IS NULL OR a.account_id = asked.account_id)
),
spent AS (
    SELECT
        u.snapshot_id,
        sum(CAST(u.byte_micros AS HUGEINT) * CAST(r.price_scaled AS HUGEINT)) AS scaled
    FROM snapshot_usage AS u
    JOIN idle ON idle.snapshot_id = u.snapshot_id
    JOIN cost_rates AS r
        ON r.period_start = u.period_start AND r.account_id = u.account_id AND r.sku = u.sku AND r.region = u.region
    GROUP BY u.snapshot_id
),
ahead AS (
    SELECT
        idle.snapshot_id,
        sum(CAST(idle.size_bytes AS HUGEINT) * (m.period_end - m.period_start) * CAST(m.price_scaled AS HUGEINT)) AS scaled
    FROM idle
    JOIN month_rates AS m ON m.account_id = idle.account_id AND m.sku = idle.sku AND m.region = idle.region
    GROUP BY idle.snapshot_id
),
currencies AS (
    SELECT account_id, currency, CAST(minor_units AS HUGEINT) AS minor_units, CAST(denominator AS HUGEINT) AS denominator
    FROM cost_currencies
)
SELECT
    idle.account_id,
    idle.project_id,
    idle.snapshot_id,
    n.name,
    idle.size_bytes,
    idle.ready_at,
    idle.age_days,
    c.currency,
    CAST(
        spent.scaled // c.denominator * c.minor_units
        + (2 * (spent.scaled % c.denominator) * c.minor_units + c.denominator) // (2 * c.denominator)
        AS BIGINT
    ) AS cost_to_date,
    CAST(
        ahead.scaled // c.denominator * c.minor_units
        + (2 * (ahead.scaled % c.denominator) * c.minor_units + c.denominator) // (2 * c.denominator)
        AS BIGINT
    ) AS cost_per_month
FROM idle
JOIN names AS n ON n.snapshot_id = idle.snapshot_id
LEFT JOIN currencies AS c ON c.account_id = idle.account_id
LEFT JOIN spent ON spent.snapshot_id = idle.snapshot_id
LEFT JOIN ahead ON ahead.snapshot_id = idle.snapshot_id
ORDER BY
    c.currency NULLS LAST,
    cost_per_month DESC NULLS LAST,
    cost_to_date DESC NULLS LAST,
    idle.account_id,
    idle.project_id,
    idle.snapshot_id
