-- One event of a batch of the first layout, with its keys, in Spark's words; see lake/keyed_events.sql.
SELECT
    batch,
    ingested_at,
    source,
    id,
    CAST(conv(substr(event_hash, 1, 16), 16, -10) AS BIGINT) AS event_high,
    CAST(conv(substr(event_hash, 17, 16), 16, -10) AS BIGINT) AS event_low,
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
    CAST(conv(substr(retracted_hash, 1, 16), 16, -10) AS BIGINT) AS retracted_high,
    CAST(conv(substr(retracted_hash, 17, 16), 16, -10) AS BIGINT) AS retracted_low,
    CAST(conv(substr(vm_hash, 1, 16), 16, -10) AS BIGINT) AS vm_high,
    CAST(conv(substr(vm_hash, 17, 16), 16, -10) AS BIGINT) AS vm_low,
    CAST(NULL AS BIGINT) AS place,
    seq
FROM (
    SELECT
        *,
        sha2(source || chr(31) || id, 256) AS event_hash,
        sha2(retracted_source || chr(31) || retracted_id, 256) AS retracted_hash,
        sha2(CASE WHEN resource_type = 'vm' THEN resource_id END, 256) AS vm_hash
    FROM old_events
) AS hashed
