-- One lifespan, as the state has it; see lifespans.
SELECT
    subject_high,
    subject_low,
    snapshot_id,
    account_id,
    project_id,
    region,
    sku,
    resource_id,
    name,
    ready_at,
    ended_at,
    size_bytes,
    ready_source,
    ready_id
FROM stored_lifespans
ANTI JOIN superseded USING (segment, subject_high)
