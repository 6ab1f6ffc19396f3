-- One event of a batch of the first layout, which has no keys but the subject's: they are computed as it is read.
-- A key is half of what a text's SHA-256 begins with, as a signed integer.
SELECT
    batch,
    ingested_at,
    source,
    id,
    CAST(CAST(unhex(substr(event_hash, 1, 16)) AS BIT) AS BIGINT) AS event_high,
    CAST(CAST(unhex(substr(event_hash, 17, 16)) AS BIT) AS BIGINT) AS event_low,
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
    retracted_id,
    CAST(CAST(unhex(substr(retracted_hash, 1, 16)) AS BIT) AS BIGINT) AS retracted_high,
    CAST(CAST(unhex(substr(retracted_hash, 17, 16)) AS BIT) AS BIGINT) AS retracted_low,
    CAST(CAST(unhex(substr(vm_hash, 1, 16)) AS BIT) AS BIGINT) AS vm_high,
    CAST(CAST(unhex(substr(vm_hash, 17, 16)) AS BIT) AS BIGINT) AS vm_low,
    CAST(NULL AS BIGINT) AS place,
    seq
FROM (
    SELECT
        *,
        sha256(source || chr(31) || id) AS event_hash,
        sha256(retracted_source || chr(31) || retracted_id) AS retracted_hash,
        sha256(CASE WHEN resource_type = 'vm' THEN resource_id END) AS vm_hash
    FROM old_events
) AS hashed
