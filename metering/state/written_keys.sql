-- One key by which later events find what a folder that is being written holds: what has ended by itself, with each
-- batch that brought events of it; and a snapshot by its VM (batch is 0).
SELECT segment, moving.subject_high AS key, moving.subject_high, ended_at, batch
FROM moving
JOIN lifecycle
    ON is_vm = (type = 'vm.deleted')
    AND moving.subject_high = lifecycle.subject_high
    AND moving.subject_low = lifecycle.subject_low
GROUP BY ALL
UNION ALL
SELECT segment, lifecycle.vm_high AS key, moving.subject_high, ended_at, 0 AS batch
FROM moving
JOIN lifecycle
    ON NOT is_vm
    AND moving.subject_high = lifecycle.subject_high
    AND moving.subject_low = lifecycle.subject_low
WHERE type = 'snapshot.ready' AND lifecycle.vm_high IS NOT NULL
GROUP BY ALL
