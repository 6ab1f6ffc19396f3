-- One event that is dated after now.
SELECT
    'future_event' AS kind,
    CASE WHEN type LIKE 'snapshot.%' THEN subject END AS snapshot_id,
    account_id,
    time AS occurred_at,
    type || ' of ' || subject || ' by event ' || id || ' of ' || source || ' is dated after now.' AS detail
FROM (
    SELECT type, subject, time, source, id
    FROM lifecycle
    CROSS JOIN scope
    WHERE time > now_us
    UNION ALL
    SELECT type, subject, time, source, id
    FROM events
    CROSS JOIN scope
    WHERE time > now_us AND type = 'event.retracted'
) AS later
LEFT JOIN (SELECT snapshot_id AS subject_id, account_id FROM changing_lifespans) AS known
    ON subject_id = subject AND type LIKE 'snapshot.%'
