-- One snapshot that became ready and had not ended before the horizon; where ended_at is not after ready_at it was
-- never metered. first_ready, ends and vm_ends have one row per key, so that no join here can bill a snapshot twice.
SELECT
    first_ready.subject_high,
    first_ready.subject_low,
    snapshot_id,
    account_id,
    project_id,
    region,
    'snapshot.' || resource_type AS sku,
    resource_id,
    name,
    ready_at,
    CASE
        WHEN vm_ends.ended_at IS NULL OR ends.ended_at <= vm_ends.ended_at THEN ends.ended_at
        ELSE vm_ends.ended_at
    END AS ended_at,
    size_bytes,
    source AS ready_source,
    id AS ready_id
FROM first_ready
LEFT JOIN ends ON ends.subject_high = first_ready.subject_high AND ends.subject_low = first_ready.subject_low
LEFT JOIN vm_ends ON vm_ends.vm_high = first_ready.vm_high AND vm_ends.vm_low = first_ready.vm_low
