-- One snapshot in one month of usage, as invoiced so far, with what is known of it now.
SELECT
    b.month,
    b.account_id,
    b.project_id,
    b.region,
    b.sku,
    b.snapshot_id,
    n.name,
    u.size_bytes,
    s.ready_at,
    CASE WHEN s.ended_at <= scope.now_us THEN s.ended_at END AS ended_at,
    b.byte_micros AS gb_hours,
    1 AS snapshots
FROM asked
CROSS JOIN scope
JOIN issued_shares AS b
    ON b.month BETWEEN asked.month_from AND asked.month_to
    AND (asked.account_id IS NULL OR b.account_id = asked.account_id)
LEFT JOIN lifespans AS s ON s.snapshot_id = b.snapshot_id
LEFT JOIN names AS n ON n.snapshot_id = b.snapshot_id
LEFT JOIN usage_by_snapshot AS u ON u.snapshot_id = b.snapshot_id AND u.month = b.month
WHERE b.is_billed
ORDER BY b.month, b.account_id, b.project_id, b.region, b.sku, b.snapshot_id
