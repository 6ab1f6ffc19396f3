-- One snapshot that has been alive for longer than the days asked for, the dearest of each currency first.
-- A cost is rounded half up by one division of 128 bits, or where the doubled product might not fit by three.
WITH forgotten AS (
    SELECT a.*, (asked.now_us - a.ready_at) // 86400000000 AS age_days
    FROM asked
    JOIN alive AS a
        ON asked.now_us - a.ready_at > asked.days * 86400000000
        AND (asked.account_id IS NULL OR a.account_id = asked.account_id)
),
spent AS (
    SELECT
        u.subject_high,
        u.subject_low,
        sum(CAST(u.byte_micros AS HUGEINT) * CAST(r.price_scaled AS HUGEINT)) AS scaled
    FROM asked
    JOIN stretch_usage AS u ON asked.now_us - u.ready_at > asked.days * 86400000000
    JOIN cost_rates AS r
        ON r.period_start = u.period_start AND r.account_id = u.account_id AND r.sku = u.sku AND r.region = u.region
    GROUP BY u.subject_high, u.subject_low
),
ahead AS (
    -- The current month has one price for each key, so that no snapshot is found twice.
    SELECT
        forgotten.subject_high,
        forgotten.subject_low,
        CAST(forgotten.size_bytes AS HUGEINT) * (m.period_end - m.period_start) * CAST(m.price_scaled AS HUGEINT) AS scaled
    FROM forgotten
    JOIN month_rates AS m ON m.account_id = forgotten.account_id AND m.sku = forgotten.sku AND m.region = forgotten.region
),
currencies AS (
    SELECT account_id, currency, CAST(minor_units AS HUGEINT) AS minor_units, CAST(denominator AS HUGEINT) AS denominator
    FROM cost_currencies
)
SELECT
    forgotten.account_id,
    forgotten.project_id,
    forgotten.snapshot_id,
    n.name,
    forgotten.size_bytes,
    forgotten.ready_at,
    forgotten.age_days,
    c.currency,
    CAST(
        CASE
            WHEN spent.scaled < CAST(1000000000000000000000000000000000 AS HUGEINT)
                THEN (2 * spent.scaled * c.minor_units + c.denominator) // (2 * c.denominator)
            ELSE spent.scaled // c.denominator * c.minor_units
                + (2 * (spent.scaled % c.denominator) * c.minor_units + c.denominator) // (2 * c.denominator)
        END AS BIGINT
    ) AS cost_to_date,
    CAST(
        CASE
            WHEN ahead.scaled < CAST(1000000000000000000000000000000000 AS HUGEINT)
                THEN (2 * ahead.scaled * c.minor_units + c.denominator) // (2 * c.denominator)
            ELSE ahead.scaled // c.denominator * c.minor_units
                + (2 * (ahead.scaled % c.denominator) * c.minor_units + c.denominator) // (2 * c.denominator)
        END AS BIGINT
    ) AS cost_per_month
FROM forgotten
JOIN names AS n ON n.subject_high = forgotten.subject_high AND n.subject_low = forgotten.subject_low
LEFT JOIN currencies AS c ON c.account_id = forgotten.account_id
LEFT JOIN spent ON spent.subject_high = forgotten.subject_high AND spent.subject_low = forgotten.subject_low
LEFT JOIN ahead ON ahead.subject_high = forgotten.subject_high AND ahead.subject_low = forgotten.subject_low
ORDER BY
    c.currency NULLS LAST,
    cost_per_month DESC NULLS LAST,
    cost_to_date DESC NULLS LAST,
    forgotten.account_id,
    forgotten.project_id,
    forgotten.snapshot_id
