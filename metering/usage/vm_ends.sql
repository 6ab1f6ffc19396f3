-- One deleted VM: its earliest deletion, which ends every vm snapshot of it.
SELECT subject AS resource_id, min(time) AS ended_at
FROM lifecycle
WHERE type = 'vm.deleted'
GROUP BY subject
