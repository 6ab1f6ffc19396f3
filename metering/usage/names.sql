-- One lifespan with the snapshot's name as people read it: the given one, or else the platform's default, which is
-- vm-<resource_id>-MM-DD-YY (or volume-…) of the day in the billing time zone on which it became ready.
SELECT
    subject_high,
    subject_low,
    snapshot_id,
    account_id,
    project_id,
    region,
    sku,
    ready_at,
    ended_at,
    size_bytes,
    coalesce(
        name, substr(sku, 10) || '-' || resource_id || '-' || substr(day, 6, 5) || '-' || substr(day, 3, 2)
    ) AS name
FROM (
    SELECT
        *,
        -- The division is exact: what is left of a whole day was taken off before.
        CAST(DATE '1970-01-01' + CAST((local_us - day_us) / 86400000000 AS INTEGER) AS STRING) AS day
    FROM (
        SELECT
            lifespans.*,
            ready_at + offset_us AS local_us,
            ((ready_at + offset_us) % 86400000000 + 86400000000) % 86400000000 AS day_us
        FROM lifespans
        JOIN zone_offsets ON ready_at >= since_us AND ready_at < until_us
    ) AS placed
) AS dated
