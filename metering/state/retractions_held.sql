-- One retraction that is held or has just arrived.
SELECT
    batch,
    source,
    id,
    type,
    subject,
    subject_high,
    subject_low,
    time,
    account_id,
    project_id,
    region,
    resource_type,
    resource_id,
    name,
    size_bytes,
    retracted_source,
    retracted_id
FROM events
WHERE type = 'event.retracted'
