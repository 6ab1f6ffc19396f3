-- One ready event that counts, of a snapshot that had not ended before the horizon.
-- Computed once.
SELECT
    subject_high,
    subject_low,
    subject AS snapshot_id,
    time AS ready_at,
    batch,
    place,
    source,
    id,
    account_id,
    project_id,
    region,
    resource_type,
    resource_id,
    vm_high,
    vm_low,
    name,
    size_bytes
FROM lifecycle
ANTI JOIN ended_before USING (subject_high, subject_low)
WHERE type = 'snapshot.ready'
