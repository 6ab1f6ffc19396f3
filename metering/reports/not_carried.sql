-- One row: how many rows about billed snapshots cannot be carried over, because their lifespans began later.
SELECT count(*) AS rows
FROM before.billed_usage_by_snapshot
WHERE month < '{first}' AND coalesce(ready_at >= make_timestamp({since}), TRUE)
