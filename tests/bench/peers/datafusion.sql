-- One account × SKU × region of the month from $start to $end.
WITH retracted AS (
    SELECT retracted_high AS gone_high, retracted_low AS gone_low FROM events WHERE type = 'event.retracted'
),
ended AS (
    SELECT subject_high AS eh, subject_low AS el
    FROM events
    LEFT ANTI JOIN retracted ON event_high = gone_high AND event_low = gone_low
    WHERE type IN ('snapshot.deleted', 'snapshot.failed') AND time <= $start
),
ready AS (
    SELECT *
    FROM events
    LEFT ANTI JOIN retracted ON event_high = gone_high AND event_low = gone_low
    WHERE type = 'snapshot.ready' AND time < $end
),
ranked AS (
    SELECT
        subject_high AS h,
        subject_low AS l,
        time AS ready_at,
        account_id,
        region,
        resource_type,
        resource_id,
        size_bytes,
        row_number() OVER (PARTITION BY subject_high, subject_low ORDER BY time, source, id) AS place
    FROM ready
    LEFT ANTI JOIN ended ON subject_high = eh AND subject_low = el
),
ends AS (
    SELECT subject_high AS eh, subject_low AS el, min(time) AS ended_at
    FROM events
    LEFT ANTI JOIN retracted ON event_high = gone_high AND event_low = gone_low
    WHERE type IN ('snapshot.deleted', 'snapshot.failed') AND time > $start AND time < $end
    GROUP BY subject_high, subject_low
),
vm_ends AS (
    SELECT subject AS vm_id, min(time) AS vm_ended_at
    FROM events
    LEFT ANTI JOIN retracted ON event_high = gone_high AND event_low = gone_low
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
        least(coalesce(ended_at, $end), coalesce(vm_ended_at, $end)) AS used_until
    FROM ranked
    LEFT JOIN ends ON h = eh AND l = el
    LEFT JOIN vm_ends ON vm_id = resource_id AND resource_type = 'vm'
    WHERE place = 1
),
changes AS (
    SELECT subject_high AS ch, subject_low AS cl, time AS changed_at, max(size_bytes) AS new_size
    FROM events
    LEFT ANTI JOIN retracted ON event_high = gone_high AND event_low = gone_low
    WHERE type = 'snapshot.resized' AND time < $end
    GROUP BY subject_high, subject_low, time
),
steps AS (
    SELECT ch, cl, changed_at, lead(changed_at) OVER (PARTITION BY ch, cl ORDER BY changed_at) AS next_at, new_size
    FROM changes
    UNION ALL
    SELECT ch, cl, CAST(NULL AS BIGINT), min(changed_at), CAST(NULL AS BIGINT) FROM changes GROUP BY ch, cl
),
stretches AS (
    SELECT
        account_id,
        resource_type,
        region,
        CASE WHEN changed_at >= ready_at THEN new_size ELSE size_bytes END AS size,
        greatest(used_from, coalesce(changed_at, used_from)) AS since,
        least(used_until, coalesce(next_at, used_until)) AS until,
        CASE WHEN coalesce(changed_at, used_from) <= used_from THEN 1 ELSE 0 END AS is_first
    FROM lifespans
    LEFT JOIN steps ON h = ch AND l = cl
    WHERE used_from < used_until
)
SELECT
    account_id,
    concat('snapshot.', resource_type) AS sku,
    region,
    sum(CAST(size AS DECIMAL(20, 0)) * CAST(until - since AS DECIMAL(17, 0))) AS byte_micros,
    sum(is_first) AS snapshots
FROM stretches
WHERE since < until
GROUP BY account_id, resource_type, region
