-- One snapshot that has been alive for longer than the days asked for, the dearest of each currency first.
-- A cost is rounded half up by one division of 128 bits, or where the doubled product might not fit by three.
-- Products are of integers, because a decimal costs a division to become one; prices are turned once.
-- Of more usage than `most` the product with a price might not fit: then its whole GB-hours are multiplied by themselves.
WITH spent_rates AS MATERIALIZED (
    SELECT
        period_start, owner, sku, region, currency,
        CAST(price_scaled AS HUGEINT) AS price,
        CAST(1000000000000000000000000000000000000 AS HUGEINT) // greatest(CAST(price_scaled AS HUGEINT), 1) AS most
    FROM cost_rates
),
coming_rates AS MATERIALIZED (
    -- The current month has one price for each key, so that no snapshot is found twice.
    SELECT
        owner, sku, region, currency,
        CAST(price_scaled AS HUGEINT) AS price,
        CAST(period_end - period_start AS HUGEINT) AS micros,
        CAST(1000000000000000000000000000000000000 AS HUGEINT) // greatest(CAST(price_scaled AS HUGEINT), 1) AS most
    FROM month_rates
),
known AS MATERIALIZED (
    SELECT
        account_id, currency, owner,
        CAST(minor_units AS HUGEINT) AS minor_units,
        CAST(gb_hour AS HUGEINT) AS gb_hour,
        CAST(denominator AS HUGEINT) AS denominator,
        CAST(denominator AS HUGEINT) // CAST(gb_hour AS HUGEINT) AS price_units
    FROM idle_accounts
),
forgotten AS (
    SELECT a.*, (asked.now_us - a.ready_at) // 86400000000 AS age_days
    FROM asked
    JOIN alive AS a
        ON asked.now_us - a.ready_at > asked.days * 86400000000
        AND (asked.account_id IS NULL OR a.account_id = asked.account_id)
),
used AS (
    SELECT
        u.subject_high,
        u.subject_low,
        CAST(u.size_bytes AS HUGEINT) * (u.used_until - u.used_from) AS byte_micros,
        c.gb_hour,
        r.price,
        r.most
    FROM asked
    JOIN stretch_usage AS u
        ON asked.now_us - u.ready_at > asked.days * 86400000000
        AND (asked.account_id IS NULL OR u.account_id = asked.account_id)
    JOIN known AS c ON c.account_id = u.account_id
    JOIN spent_rates AS r
        ON r.period_start = u.period_start AND r.sku = u.sku AND r.region = u.region
        AND r.currency = c.currency AND r.owner = c.owner
),
spent AS (
    SELECT
        subject_high,
        subject_low,
        sum(CASE WHEN byte_micros <= most THEN byte_micros ELSE byte_micros % gb_hour END * price) AS scaled,
        sum(CASE WHEN byte_micros > most THEN byte_micros // gb_hour * price END) AS whole
    FROM used
    GROUP BY subject_high, subject_low
),
coming AS (
    SELECT
        forgotten.*,
        c.currency,
        c.minor_units,
        c.gb_hour,
        c.denominator,
        c.price_units,
        forgotten.size_bytes * m.micros AS byte_micros,
        m.price,
        m.most
    FROM forgotten
    LEFT JOIN known AS c ON c.account_id = forgotten.account_id
    LEFT JOIN coming_rates AS m
        ON m.sku = forgotten.sku AND m.region = forgotten.region AND m.currency = c.currency AND m.owner = c.owner
),
costs AS (
    SELECT
        coming.*,
        CASE WHEN whole IS NULL THEN scaled ELSE scaled + whole % price_units * gb_hour END AS scaled_to_date,
        CASE WHEN whole IS NULL THEN 0 ELSE whole // price_units * minor_units END AS more_to_date,
        CASE
            WHEN byte_micros <= most THEN byte_micros * price
            ELSE byte_micros % gb_hour * price + byte_micros // gb_hour * price % price_units * gb_hour
        END AS scaled_per_month,
        CASE
            WHEN byte_micros > most THEN byte_micros // gb_hour * price // price_units * minor_units
            ELSE 0
        END AS more_per_month
    FROM coming
    LEFT JOIN spent ON spent.subject_high = coming.subject_high AND spent.subject_low = coming.subject_low
)
SELECT
    account_id,
    project_id,
    snapshot_id,
    name,
    size_bytes,
    ready_at,
    age_days,
    currency,
    CAST(
        more_to_date + CASE
            WHEN scaled_to_date < CAST(1000000000000000000000000000000000 AS HUGEINT)
                THEN (2 * scaled_to_date * minor_units + denominator) // (2 * denominator)
            ELSE scaled_to_date // denominator * minor_units
                + (2 * (scaled_to_date % denominator) * minor_units + denominator) // (2 * denominator)
        END AS BIGINT
    ) AS cost_to_date,
    CAST(
        more_per_month + CASE
            WHEN scaled_per_month < CAST(1000000000000000000000000000000000 AS HUGEINT)
                THEN (2 * scaled_per_month * minor_units + denominator) // (2 * denominator)
            ELSE scaled_per_month // denominator * minor_units
                + (2 * (scaled_per_month % denominator) * minor_units + denominator) // (2 * denominator)
        END AS BIGINT
    ) AS cost_per_month
FROM costs
ORDER BY
    currency NULLS LAST,
    cost_per_month DESC NULLS LAST,
    cost_to_date DESC NULLS LAST,
    account_id,
    project_id,
    snapshot_id
