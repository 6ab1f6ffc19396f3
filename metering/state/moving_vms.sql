-- One deleted VM of a folder that is being written; see moving.
SELECT segment, placed_vms.*
FROM placed_vms
JOIN target ON ended_at >= since AND ended_at < until
UNION ALL
SELECT segment, placed_vms.*
FROM placed_vms
JOIN target ON since IS NULL AND ended_at IS NULL
