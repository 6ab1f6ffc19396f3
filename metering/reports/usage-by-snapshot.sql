-- One snapshot in one month of usage.
SELECT
    u.month, u.account_id, u.project_id, u.region, u.sku, u.snapshot_id, u.name, u.size_bytes, u.ready_at, u.ended_at,
    u.byte_micros AS gb_hours, 1 AS snapshots
FROM asked
JOIN usage_by_snapshot AS u ON asked.account_id IS NULL OR u.account_id = asked.account_id
ORDER BY u.month, u.account_id, u.project_id, u.region, u.sku, u.snapshot_id
