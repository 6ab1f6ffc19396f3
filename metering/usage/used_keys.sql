-- One account × SKU × region of a snapshot that had not ended before the horizon.
SELECT DISTINCT account_id, sku, region
FROM lifespans
CROSS JOIN scope
WHERE ready_at < now_us AND coalesce(ended_at > ready_at, TRUE)
