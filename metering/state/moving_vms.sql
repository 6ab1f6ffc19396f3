-- One deleted VM that is archived in the segment that is being written.
SELECT settled_vms.*
FROM settled_vms
JOIN buckets ON ended_at >= since AND ended_at < until
WHERE bucket = $bucket
