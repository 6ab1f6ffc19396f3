-- One deleted VM; ended_at is empty where its deletions can still matter: one is dated after now, or one of its
-- snapshots can still change.
SELECT
    deleted.resource_id,
    hash(deleted.resource_id, 2) AS owner,
    CASE WHEN last_at <= now_us AND vms_in_use.resource_id IS NULL THEN first_at END AS ended_at
FROM (
    SELECT subject AS resource_id, min(time) AS first_at, max(time) AS last_at
    FROM lifecycle
    WHERE type = 'vm.deleted'
    GROUP BY subject
) AS deleted
LEFT JOIN vms_in_use ON vms_in_use.resource_id = deleted.resource_id
CROSS JOIN scope
