-- One accepted event of the snapshot asked for, or a deletion of a VM that it was of.
SELECT events.*
FROM events
JOIN asked ON events.subject = asked.snapshot_id
WHERE type LIKE 'snapshot.%'
UNION ALL
SELECT events.*
FROM events
SEMI JOIN (
    SELECT vm_high AS subject_high, vm_low AS subject_low
    FROM events
    JOIN asked ON events.subject = asked.snapshot_id
    WHERE type = 'snapshot.ready'
) AS vms USING (subject_high, subject_low)
WHERE type = 'vm.deleted'
