-- One ready event that counts.
SELECT
    subject AS snapshot_id,
    time AS ready_at,
    source,
    id,
    account_id,
    project_id,
    region,
    resource_type,
    resource_id,
    name,
    size_bytes
FROM lifecycle
WHERE type = 'snapshot.ready'
