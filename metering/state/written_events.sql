-- One event of a folder that is being written: of a snapshot, or a VM's deletion; and, with what can still change,
-- a retraction that waits.
SELECT
    segment,
    owner,
    lifecycle.*,
    CAST(NULL AS VARCHAR) AS retracted_source,
    CAST(NULL AS VARCHAR) AS retracted_id,
    CAST(NULL AS BIGINT) AS retracted_high,
    CAST(NULL AS BIGINT) AS retracted_low
FROM lifecycle
JOIN moving ON moving.subject_high = lifecycle.subject_high AND moving.subject_low = lifecycle.subject_low
WHERE type LIKE 'snapshot.%'
UNION ALL
SELECT
    segment,
    owner,
    lifecycle.*,
    CAST(NULL AS VARCHAR) AS retracted_source,
    CAST(NULL AS VARCHAR) AS retracted_id,
    CAST(NULL AS BIGINT) AS retracted_high,
    CAST(NULL AS BIGINT) AS retracted_low
FROM lifecycle
JOIN moving_vms ON moving_vms.resource_id = lifecycle.subject
WHERE type = 'vm.deleted'
UNION ALL
SELECT segment, CAST(0 AS UBIGINT) AS owner, waiting_retractions.*
FROM waiting_retractions
JOIN target ON segment = 0
