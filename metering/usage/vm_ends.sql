-- One deleted VM: its earliest deletion, which ends every vm snapshot of it.
SELECT subject_high AS vm_high, subject_low AS vm_low, min(time) AS ended_at
FROM lifecycle
WHERE type = 'vm.deleted'
GROUP BY subject_high, subject_low
