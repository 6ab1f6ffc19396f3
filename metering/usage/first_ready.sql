-- One snapshot that became ready: its earliest ready event; of two at one instant, the smaller (source, id). That is
-- also the one of the smaller place, if both came in one batch.
-- Only the few snapshots with several ready events are ranked: ranking all would cost more than the whole metering.
SELECT
    subject_high,
    subject_low,
    snapshot_id,
    ready_at,
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
FROM ready_events
ANTI JOIN ready_again USING (subject_high, subject_low)
UNION ALL
SELECT
    subject_high,
    subject_low,
    snapshot_id,
    ready_at,
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
FROM (
    SELECT
        ready_events.*,
        row_number() OVER (PARTITION BY subject_high, subject_low ORDER BY ready_at, place) AS rank
    FROM ready_events
    SEMI JOIN ready_again USING (subject_high, subject_low)
    ANTI JOIN ready_tied USING (subject_high, subject_low)
) AS ranked
WHERE rank = 1
UNION ALL
SELECT
    subject_high,
    subject_low,
    snapshot_id,
    ready_at,
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
FROM (
    SELECT
        lifecycle.*,
        subject AS snapshot_id,
        time AS ready_at,
        row_number() OVER (PARTITION BY subject_high, subject_low ORDER BY source, id) AS rank
    FROM lifecycle
    JOIN ready_tied USING (subject_high, subject_low)
    WHERE type = 'snapshot.ready' AND time = tied_at
) AS ranked
WHERE rank = 1
