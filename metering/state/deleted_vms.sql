-- One VM whose deletion arrives or is taken back; its snapshots that had ended before are not touched by that.
SELECT subject_high AS vm_high, min(time) AS since
FROM arriving
WHERE type = 'vm.deleted'
GROUP BY subject_high
