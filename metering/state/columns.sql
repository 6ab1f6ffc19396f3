-- One event, as much of it as metering reads.
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
FROM given_events
