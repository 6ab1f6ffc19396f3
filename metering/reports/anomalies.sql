-- One thing in the events that a person should know of.
SELECT a.kind, a.snapshot_id, a.account_id, a.occurred_at, a.detail
FROM asked
JOIN found_anomalies AS a
    ON (asked.account_id IS NULL OR a.account_id = asked.account_id)
    AND (asked.is_all OR (a.occurred_at >= asked.time_from AND a.occurred_at < asked.time_to))
ORDER BY a.kind, a.snapshot_id NULLS FIRST, a.occurred_at, a.account_id NULLS FIRST, a.detail
