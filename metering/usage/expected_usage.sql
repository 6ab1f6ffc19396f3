-- One account × SKU × region in one period: what it has used up to now, and what it would still use from now to the
-- period's end if all that is alive now stayed alive at its present size. Each is empty where there is none of it.
SELECT
    month,
    period_start,
    period_end,
    account_id,
    sku,
    region,
    CAST(
        sum(CASE WHEN past > 0 THEN CAST(size_bytes AS DECIMAL(20, 0)) * CAST(past AS DECIMAL(17, 0)) END)
        AS DECIMAL(38, 0)
    ) AS byte_micros,
    CAST(
        sum(CASE WHEN ahead > 0 THEN CAST(size_bytes AS DECIMAL(20, 0)) * CAST(ahead AS DECIMAL(17, 0)) END)
        AS DECIMAL(38, 0)
    ) AS remaining
FROM (
    SELECT
        month,
        period_start,
        period_end,
        account_id,
        sku,
        region,
        size_bytes,
        least(past_end, period_end) - greatest(stretch_start, period_start) AS past,
        CASE WHEN is_alive = 1 THEN period_end - greatest(now_us, period_start) END AS ahead
    FROM (
        SELECT
            stretches.*,
            now_us,
            least(coalesce(stretch_end, now_us), now_us) AS past_end,
            CASE WHEN stretch_start <= now_us AND coalesce(stretch_end > now_us, TRUE) THEN 1 ELSE 0 END AS is_alive
        FROM stretches
        CROSS JOIN scope
    ) AS seen
    JOIN periods
        ON stretch_start < period_end
        AND CASE WHEN is_alive = 1 THEN period_end ELSE past_end END > period_start
) AS clipped
WHERE past > 0 OR ahead > 0
GROUP BY month, period_start, period_end, account_id, sku, region
