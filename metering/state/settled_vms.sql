-- One VM that was deleted by now, and none of whose snapshots can still change.
SELECT resource_id, hash(resource_id, 2) AS owner, ended_at
FROM (
    SELECT subject AS resource_id, min(time) AS ended_at, max(time) AS last_at
    FROM lifecycle
    WHERE type = 'vm.deleted'
    GROUP BY subject
) AS deleted
ANTI JOIN vms_in_use USING (resource_id)
CROSS JOIN scope
WHERE last_at <= now_us
