-- One snapshot in one month of usage, as invoiced so far, with what is known of it now.
-- Only the few that have turned out to have no usage in the month are looked for among all lifespans: where there are
-- none, the semi join reads no lifespan.
WITH told AS (
    SELECT
        month, account_id, project_id, region, sku, snapshot_id, name, size_bytes, ready_at, ended_at,
        byte_micros, account_place, sku_place
    FROM billed_shares
    WHERE used_id IS NOT NULL
    UNION ALL
    SELECT
        b.month, b.account_id, b.project_id, b.region, b.sku, b.snapshot_id, n.name, NULL, n.ready_at,
        CASE WHEN n.ended_at <= scope.now_us THEN n.ended_at END,
        b.byte_micros, b.account_place, b.sku_place
    FROM billed_shares AS b
    CROSS JOIN scope
    LEFT JOIN (
        SELECT names.*
        FROM names
        SEMI JOIN (SELECT snapshot_id FROM billed_shares WHERE used_id IS NULL) AS unused USING (snapshot_id)
    ) AS n ON n.snapshot_id = b.snapshot_id
    WHERE b.used_id IS NULL
)
SELECT
    month, account_id, project_id, region, sku, snapshot_id, name, size_bytes, ready_at, ended_at,
    byte_micros AS gb_hours, 1 AS snapshots
FROM told
ORDER BY account_place, project_id, sku_place, snapshot_id
