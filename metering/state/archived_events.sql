-- One event that is being archived: of a snapshot, or a VM's deletion.
SELECT segment, owner, lifecycle.*
FROM lifecycle
JOIN moving ON moving.subject_high = lifecycle.subject_high AND moving.subject_low = lifecycle.subject_low
CROSS JOIN target
WHERE type LIKE 'snapshot.%'
UNION ALL
SELECT segment, owner, lifecycle.*
FROM lifecycle
JOIN moving_vms ON moving_vms.resource_id = lifecycle.subject
CROSS JOIN target
WHERE type = 'vm.deleted'
ORDER BY owner
