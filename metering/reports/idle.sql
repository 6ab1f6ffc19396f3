-- One snapshot that has been alive for longer than the days asked for, the dearest of each currency first.
-- Its present stretch has cost its size × what a byte has cost since it began; earlier ones, of the few that were resized,
-- are summed up by periods, and so is what is larger than `largest`, whose product might not fit.
-- What a month costs is a fraction of the size: up to `short` bytes it is rounded half up in 64 bits.
-- Any other cost is rounded by one division of 128 bits, or where the doubled product might not fit by three.
-- Products are of integers, because a decimal costs a division to become one; prices are turned once.
-- Of more usage than `most` the product with a price might not fit: then its whole GB-hours are multiplied by themselves.
WITH spent_rates AS MATERIALIZED (
    SELECT
        period_start, period_end, owner, sku, region, currency,
        CAST(price_scaled AS HUGEINT) AS price,
        CAST(1000000000000000000000000000000000000 AS HUGEINT) // greatest(CAST(price_scaled AS HUGEINT), 1) AS most
    FROM cost_rates
),
coming_rates AS MATERIALIZED (
    -- The current month has one price for each key, so that no snapshot is found twice.
    SELECT
        owner, sku, region, currency, multiplier, divisor, short,
        CAST(price_scaled AS HUGEINT) AS price,
        CAST(period_end - period_start AS HUGEINT) AS micros,
        CAST(1000000000000000000000000000000000000 AS HUGEINT) // greatest(CAST(price_scaled AS HUGEINT), 1) AS most
    FROM month_rates
),
rates_since AS MATERIALIZED (
    SELECT
        owner, sku, region, currency, begins, period_start, period_end,
        CAST(price_scaled AS HUGEINT) AS price,
        CAST(later_scaled AS HUGEINT) AS later
    FROM cost_rates_since
),
known AS MATERIALIZED (
    SELECT
        account_id, currency, owner,
        dense_rank() OVER (ORDER BY currency) AS currency_place,
        CAST(minor_units AS HUGEINT) AS minor_units,
        CAST(gb_hour AS HUGEINT) AS gb_hour,
        CAST(denominator AS HUGEINT) AS denominator,
        CAST(denominator AS HUGEINT) // CAST(gb_hour AS HUGEINT) AS price_units
    FROM idle_accounts
),
past AS (
    SELECT s.*
    FROM idle_stretches AS s
    JOIN cost_bound AS b ON s.stretch_end <= s.now_us OR s.size_bytes > b.largest
),
used AS (
    SELECT
        s.subject_high,
        s.subject_low,
        CAST(s.size_bytes AS HUGEINT)
        * (least(s.stretch_end, s.now_us, r.period_end) - greatest(s.stretch_start, r.period_start)) AS byte_micros,
        c.gb_hour,
        r.price,
        r.most
    FROM past AS s
    JOIN known AS c ON c.account_id = s.account_id
    JOIN spent_rates AS r
        ON r.sku = s.sku AND r.region = s.region AND r.currency = c.currency AND r.owner = c.owner
        AND s.stretch_start < r.period_end AND least(s.stretch_end, s.now_us) > r.period_start
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
        s.*,
        (s.now_us - s.ready_at) // 86400000000 AS age_days,
        c.currency,
        c.currency_place,
        c.minor_units,
        c.gb_hour,
        c.denominator,
        c.price_units,
        s.size_bytes * m.micros AS byte_micros,
        m.price,
        m.most,
        m.multiplier,
        m.divisor,
        m.short,
        CASE
            WHEN s.size_bytes <= b.largest
                THEN s.size_bytes * (r.price * (r.period_end - greatest(s.stretch_start, r.period_start)) + r.later)
        END AS scaled_since
    FROM idle_stretches AS s
    CROSS JOIN cost_bound AS b
    LEFT JOIN known AS c ON c.account_id = s.account_id
    LEFT JOIN rates_since AS r
        ON r.sku = s.sku AND r.region = s.region AND r.currency = c.currency AND r.owner = c.owner
        AND s.stretch_start >= r.begins AND s.stretch_start < r.period_end
    LEFT JOIN coming_rates AS m
        ON m.sku = s.sku AND m.region = s.region AND m.currency = c.currency AND m.owner = c.owner
    WHERE coalesce(s.stretch_end > s.now_us, TRUE)
),
costs AS (
    SELECT
        coming.*,
        CASE WHEN scaled IS NULL THEN scaled_since ELSE scaled + coalesce(scaled_since, 0) END
        + CASE WHEN whole IS NULL THEN 0 ELSE whole % price_units * gb_hour END AS scaled_to_date,
        CASE WHEN whole IS NULL THEN 0 ELSE whole // price_units * minor_units END AS more_to_date,
        CASE
            WHEN size_bytes <= short THEN NULL
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
    CASE
        WHEN size_bytes <= short THEN (2 * size_bytes * multiplier + divisor) // (2 * divisor)
        ELSE CAST(
            more_per_month + CASE
                WHEN scaled_per_month < CAST(1000000000000000000000000000000000 AS HUGEINT)
                    THEN (2 * scaled_per_month * minor_units + denominator) // (2 * denominator)
                ELSE scaled_per_month // denominator * minor_units
                    + (2 * (scaled_per_month % denominator) * minor_units + denominator) // (2 * denominator)
            END AS BIGINT
        )
    END AS cost_per_month
FROM costs
ORDER BY
    -- The engine sorts by the first eight bytes of all keys, and looks at the others where these are equal.
    CAST(currency_place * 16777216 - least(coalesce(cost_per_month, 0), 16777215) AS UINTEGER) NULLS LAST,
    currency_place NULLS LAST,
    cost_per_month DESC NULLS LAST,
    cost_to_date DESC NULLS LAST,
    account_id,
    project_id,
    snapshot_id
