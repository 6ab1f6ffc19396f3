-- One key by which later events find what the segment that is being written holds.
SELECT hash(snapshot_id) AS key, owner, ended_at
FROM moving
UNION ALL
SELECT hash(lifespans.resource_id, 1) AS key, owner, moving.ended_at
FROM moving
JOIN lifespans ON lifespans.subject_high = moving.subject_high AND lifespans.subject_low = moving.subject_low
WHERE sku = 'snapshot.vm'
UNION ALL
SELECT owner AS key, owner, ended_at
FROM moving_vms
ORDER BY key
