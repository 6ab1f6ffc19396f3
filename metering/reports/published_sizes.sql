-- One snapshot in one month in which it was metered, as it has just been published.
SELECT month, snapshot_id, size_bytes
FROM published.usage_by_snapshot
