-- One event that counts at the later batch, of an affected snapshot; and the VMs' deletions that are at hand.
SELECT *
FROM (SELECT * FROM held_events UNION ALL SELECT * FROM recalled_events) AS counted
SEMI JOIN affected ON snapshot_id = subject
WHERE type LIKE 'snapshot.%'
UNION ALL
SELECT *
FROM (SELECT * FROM held_events UNION ALL SELECT * FROM recalled_events) AS counted
WHERE type = 'vm.deleted'
