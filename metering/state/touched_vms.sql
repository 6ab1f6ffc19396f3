-- One VM of a snapshot that was called back: its deletion is needed too.
SELECT DISTINCT hash(resource_id, 2) AS key, -9223372036854775807 AS since
FROM recalled_events
WHERE type = 'snapshot.ready' AND resource_type = 'vm'
