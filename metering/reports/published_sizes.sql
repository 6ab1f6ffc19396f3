-- One snapshot in one month in which it was metered, as it has just been published.
SELECT month, snapshot_id, name, size_bytes, epoch_us(ready_at) AS ready_at, epoch_us(ended_at) AS ended_at
FROM published.usage_by_snapshot
