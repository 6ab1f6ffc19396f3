-- One snapshot that became ready: its earliest ready event; of two at one instant, the smaller (source, id).
-- Only the few snapshots with several ready events are ranked: ranking all would cost more than the whole metering.
SELECT
    snapshot_id, ready_at, source, id, account_id, project_id, region, resource_type, resource_id, name, size_bytes
FROM ready_events
ANTI JOIN ready_again USING (snapshot_id)
UNION ALL
SELECT
    snapshot_id, ready_at, source, id, account_id, project_id, region, resource_type, resource_id, name, size_bytes
FROM (
    SELECT
        ready_events.*,
        row_number() OVER (PARTITION BY snapshot_id ORDER BY ready_at, source, id) AS place
    FROM ready_events
    SEMI JOIN ready_again USING (snapshot_id)
) AS ranked
WHERE place = 1
