-- One event that counts: not retracted, and not a retraction (which cannot be retracted itself).
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
    size_bytes
FROM events
ANTI JOIN (
    SELECT retracted_source AS source, retracted_id AS id
    FROM events
    WHERE type = 'event.retracted'
) AS retracted USING (source, id)
WHERE type <> 'event.retracted'
