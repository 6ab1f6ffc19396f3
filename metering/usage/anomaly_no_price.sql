-- One snapshot in one unpriced period; nobody is billed for its usage there.
SELECT
    'no_price' AS kind,
    snapshot_id,
    account_id,
    min(greatest(used_from, unpriced_start)) AS occurred_at,
    'No price for ' || sku || ' in ' || region || ' in ' || unpriced_month || '; its usage there is not billed.'
    AS detail
FROM stretch_usage
JOIN (
    SELECT
        month AS unpriced_month,
        account_id,
        sku,
        region,
        period_start AS unpriced_start,
        period_end AS unpriced_end
    FROM unpriced
) AS gaps USING (account_id, sku, region)
WHERE used_from < unpriced_end AND used_until > unpriced_start
GROUP BY snapshot_id, account_id, sku, region, unpriced_month, unpriced_start
