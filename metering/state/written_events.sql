-- One event of the folder that is being written: of a snapshot, or a VM's deletion; and, with what can still change,
-- a retraction that waits.
SELECT segment, found.*
FROM (
    SELECT owner, lifecycle.*, CAST(NULL AS VARCHAR) AS retracted_source, CAST(NULL AS VARCHAR) AS retracted_id
    FROM lifecycle
    JOIN moving ON moving.subject_high = lifecycle.subject_high AND moving.subject_low = lifecycle.subject_low
    WHERE type LIKE 'snapshot.%'
    UNION ALL
    SELECT owner, lifecycle.*, CAST(NULL AS VARCHAR) AS retracted_source, CAST(NULL AS VARCHAR) AS retracted_id
    FROM lifecycle
    JOIN moving_vms ON moving_vms.resource_id = lifecycle.subject
    WHERE type = 'vm.deleted'
    UNION ALL
    SELECT CAST(0 AS UBIGINT) AS owner, waiting_retractions.*
    FROM waiting_retractions
    SEMI JOIN target ON segment = 0
) AS found
CROSS JOIN target
ORDER BY owner
