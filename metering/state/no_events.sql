-- No event: what can still change before anything is known.
SELECT CAST(0 AS BIGINT) AS segment, CAST(NULL AS BIGINT) AS due_at, *
FROM new_events
WHERE FALSE
