-- One accepted event that concerns a snapshot: its own, deletions of its VM, and what takes one of these back.
SELECT
    found.batch,
    found.seq,
    found.type,
    found.time,
    found.source,
    found.id,
    found.account_id,
    found.project_id,
    found.region,
    found.resource_type,
    found.resource_id,
    found.size_bytes,
    found.retracted_source,
    found.retracted_id,
    CASE WHEN retracted.event_high IS NULL THEN 'yes' ELSE 'no' END AS counts
FROM (
    FROM concerned_events
    UNION ALL BY NAME
    SELECT events.*
    FROM events
    SEMI JOIN concerned_events
        ON events.retracted_high = concerned_events.event_high AND events.retracted_low = concerned_events.event_low
    WHERE type = 'event.retracted'
) AS found
LEFT JOIN (SELECT DISTINCT * FROM retracted) AS retracted
    ON found.type <> 'event.retracted'
    AND retracted.event_high = found.event_high
    AND retracted.event_low = found.event_low
ORDER BY found.time, found.source, found.id
