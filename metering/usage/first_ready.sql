-- One snapshot that became ready: its earliest ready event; of two at one instant, the smaller (source, id).
-- Only the few snapshots with several ready events are ranked: ranking all would cost more than the whole metering.
SELECT ready_events.*
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
    name,
    size_bytes
FROM (
    SELECT
        ready_events.*,
        row_number() OVER (PARTITION BY subject_high, subject_low ORDER BY ready_at, source, id) AS place
    FROM ready_events
    SEMI JOIN ready_again USING (subject_high, subject_low)
) AS ranked
WHERE place = 1
