-- One part of time in which something settled.
SELECT bucket
FROM buckets
SEMI JOIN (SELECT ended_at FROM settled UNION ALL SELECT ended_at FROM settled_vms) AS ends
    ON ended_at >= since AND ended_at < until
ORDER BY bucket
