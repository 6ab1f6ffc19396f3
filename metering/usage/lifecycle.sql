-- One event that counts: not retracted, and not a retraction (which cannot be retracted itself).
SELECT
    batch,
    place,
    source,
    id,
    event_high,
    event_low,
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
    vm_high,
    vm_low,
    name,
    size_bytes
FROM events
ANTI JOIN retracted USING (event_high, event_low)
WHERE type <> 'event.retracted'
