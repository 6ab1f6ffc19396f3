-- One account × SKU × region of the month from $start to $end.
-- Snapshots that ended before the month are dropped first; every other rule looks at those that are left.
-- Without NOT MATERIALIZED all events would be kept in memory, texts and all, because they are asked for six times.
-- BETWEEN on types is evaluated by the scan itself, IN is not; no other type lies between the two.
WITH e AS NOT MATERIALIZED (
    SELECT *, subject_high AS h, subject_low AS l
    FROM read_parquet($files)
),
retracted AS MATERIALIZED (
    SELECT retracted_high AS event_high, retracted_low AS event_low FROM e WHERE type = 'event.retracted'
),
ended AS (
    SELECT h, l
    FROM e ANTI JOIN retracted USING (event_high, event_low)
    WHERE type BETWEEN 'snapshot.deleted' AND 'snapshot.failed' AND time <= $start
),
alive AS MATERIALIZED (
    SELECT h, l, time AS ready_at, source, id, account_id, region, resource_type, resource_id, size_bytes
    FROM e ANTI JOIN retracted USING (event_high, event_low) ANTI JOIN ended USING (h, l)
    WHERE type = 'snapshot.ready' AND time < $end
),
again AS MATERIALIZED (
    SELECT h, l FROM alive GROUP BY h, l HAVING count(*) > 1
),
first_ready AS (
    SELECT * EXCLUDE (source, id) FROM alive ANTI JOIN again USING (h, l)
    UNION ALL
    SELECT * EXCLUDE (source, id, place)
    FROM (
        SELECT *, row_number() OVER (PARTITION BY h, l ORDER BY ready_at, source, id) AS place
        FROM alive SEMI JOIN again USING (h, l)
    )
    WHERE place = 1
),
ends AS (
    SELECT h, l, min(time) AS ended_at
    FROM e ANTI JOIN retracted USING (event_high, event_low)
    WHERE type BETWEEN 'snapshot.deleted' AND 'snapshot.failed' AND time > $start AND time < $end
    GROUP BY h, l
),
vm_ends AS (
    SELECT subject AS resource_id, min(time) AS vm_ended_at
    FROM e ANTI JOIN retracted USING (event_high, event_low)
    WHERE type = 'vm.deleted' AND time < $end
    GROUP BY subject
),
lifespans AS (
    SELECT
        h,
        l,
        account_id,
        resource_type,
        region,
        size_bytes,
        ready_at,
        greatest(ready_at, $start) AS used_from,
        coalesce(least(ended_at, vm_ended_at), $end) AS used_until
    FROM first_ready
    LEFT JOIN ends USING (h, l)
    LEFT JOIN vm_ends ON vm_ends.resource_id = first_ready.resource_id AND resource_type = 'vm'
),
changes AS MATERIALIZED (
    SELECT h, l, time AS changed_at, max(size_bytes) AS new_size
    FROM e ANTI JOIN retracted USING (event_high, event_low)
    WHERE type = 'snapshot.resized' AND time < $end
    GROUP BY h, l, time
),
steps AS (
    SELECT h, l, changed_at, lead(changed_at) OVER (PARTITION BY h, l ORDER BY changed_at) AS next_at, new_size
    FROM changes
    UNION ALL
    SELECT h, l, NULL, min(changed_at), NULL FROM changes GROUP BY h, l
),
stretches AS (
    SELECT
        account_id,
        resource_type,
        region,
        CASE WHEN changed_at >= ready_at THEN new_size ELSE size_bytes END AS size,
        greatest(used_from, coalesce(changed_at, used_from)) AS since,
        least(used_until, coalesce(next_at, used_until)) AS until,
        greatest(used_from, coalesce(changed_at, used_from)) = used_from AS is_first
    FROM lifespans
    LEFT JOIN steps USING (h, l)
    WHERE used_from < used_until
)
SELECT
    account_id,
    'snapshot.' || resource_type AS sku,
    region,
    sum(CAST(size AS DECIMAL(20, 0)) * CAST(until - since AS DECIMAL(17, 0))) AS byte_micros,
    CAST(sum(CAST(is_first AS INTEGER)) AS BIGINT) AS snapshots
FROM stretches
WHERE since < until
GROUP BY account_id, resource_type, region
