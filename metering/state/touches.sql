-- One key that arriving events touch; what had ended before `since` is not touched by them.
SELECT DISTINCT hash(subject) AS key, -9223372036854775807 AS since
FROM arriving
WHERE type LIKE 'snapshot.%'
UNION ALL
SELECT hash(subject, 1) AS key, min(time) AS since
FROM arriving
WHERE type = 'vm.deleted'
GROUP BY subject
UNION ALL
SELECT DISTINCT hash(subject, 2) AS key, -9223372036854775807 AS since
FROM arriving
WHERE type = 'vm.deleted'
UNION ALL
SELECT DISTINCT hash(resource_id, 2) AS key, -9223372036854775807 AS since
FROM arriving
WHERE type = 'snapshot.ready' AND resource_type = 'vm'
