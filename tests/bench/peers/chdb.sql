-- One account × SKU × region of the month from $start to $end.
WITH retracted AS (
    SELECT assumeNotNull(retracted_high) AS high, assumeNotNull(retracted_low) AS low
    FROM $events
    WHERE type = 'event.retracted'
),
ended AS (
    SELECT subject_high AS h, subject_low AS l
    FROM $events
    WHERE type IN ('snapshot.deleted', 'snapshot.failed') AND time <= $start AND (event_high, event_low) NOT IN retracted
),
first_ready AS (
    SELECT
        h,
        l,
        min(ready_at) AS first_at,
        argMin((account_id, region, resource_type, resource_id, size_bytes), (ready_at, source, id)) AS told
    FROM (
        SELECT
            subject_high AS h, subject_low AS l, time AS ready_at, source, id,
            account_id, region, resource_type, resource_id, size_bytes
        FROM $events
        WHERE type = 'snapshot.ready' AND time < $end AND (event_high, event_low) NOT IN retracted
    ) AS ready
    LEFT ANTI JOIN ended USING (h, l)
    GROUP BY h, l
),
ends AS (
    SELECT subject_high AS h, subject_low AS l, min(time) AS ended_at
    FROM $events
    WHERE type IN ('snapshot.deleted', 'snapshot.failed') AND time > $start AND time < $end
        AND (event_high, event_low) NOT IN retracted
    GROUP BY h, l
),
vm_ends AS (
    SELECT subject AS vm_id, min(time) AS vm_ended_at
    FROM $events
    WHERE type = 'vm.deleted' AND time < $end AND (event_high, event_low) NOT IN retracted
    GROUP BY subject
),
lifespans AS (
    SELECT
        h,
        l,
        told.1 AS account_id,
        told.3 AS resource_type,
        told.2 AS region,
        told.5 AS size_bytes,
        first_at AS ready_at,
        greatest(first_at, toInt64($start)) AS used_from,
        least(
            coalesce(ended_at, toInt64($end)), if(told.3 = 'vm', coalesce(vm_ended_at, toInt64($end)), toInt64($end))
        ) AS used_until
    FROM first_ready
    LEFT JOIN ends USING (h, l)
    LEFT JOIN vm_ends ON vm_id = told.4
),
changes AS (
    SELECT subject_high AS h, subject_low AS l, time AS changed_at, max(size_bytes) AS new_size
    FROM $events
    WHERE type = 'snapshot.resized' AND time < $end AND (event_high, event_low) NOT IN retracted
    GROUP BY h, l, changed_at
),
steps AS (
    SELECT h, l, step.1 AS changed_at, step.2 AS next_at, step.3 AS new_size
    FROM (
        SELECT
            h,
            l,
            arraySort(groupArray((changed_at, new_size))) AS sorted,
            arrayJoin(
                arrayConcat(
                    [(CAST(NULL AS Nullable(Int64)), CAST(sorted[1].1 AS Nullable(Int64)), CAST(NULL AS Nullable(Int64)))],
                    arrayMap(
                        (change, at) -> (
                            CAST(change.1 AS Nullable(Int64)),
                            if(at < length(sorted), CAST(sorted[at + 1].1 AS Nullable(Int64)), NULL),
                            CAST(change.2 AS Nullable(Int64))
                        ),
                        sorted,
                        arrayEnumerate(sorted)
                    )
                )
            ) AS step
        FROM changes
        GROUP BY h, l
    )
),
stretches AS (
    SELECT
        account_id,
        resource_type,
        region,
        if(coalesce(changed_at >= ready_at, 0), new_size, size_bytes) AS size,
        greatest(used_from, coalesce(changed_at, used_from)) AS since,
        least(used_until, coalesce(next_at, used_until)) AS until,
        coalesce(changed_at, used_from) <= used_from AS is_first
    FROM (SELECT * FROM lifespans WHERE used_from < used_until) AS metered
    LEFT JOIN steps USING (h, l)
)
SELECT
    account_id,
    concat('snapshot.', resource_type) AS sku,
    region,
    toString(sum(toInt128(size) * toInt128(until - since))) AS byte_micros,
    toString(sum(is_first)) AS snapshots
FROM stretches
WHERE since < until
GROUP BY account_id, resource_type, region
SETTINGS join_use_nulls = 1, max_threads = $threads
