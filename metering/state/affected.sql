-- One snapshot whose lifespan the arriving events may change.
SELECT subject AS snapshot_id
FROM arriving
WHERE type LIKE 'snapshot.%'
UNION
SELECT subject AS snapshot_id
FROM recalled_events
WHERE type LIKE 'snapshot.%'
UNION
SELECT held_events.subject AS snapshot_id
FROM held_events
SEMI JOIN (SELECT subject AS deleted FROM arriving WHERE type = 'vm.deleted') AS vms ON deleted = resource_id
WHERE type = 'snapshot.ready' AND resource_type = 'vm'
