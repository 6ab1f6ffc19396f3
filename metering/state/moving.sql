-- One snapshot that is archived in the segment that is being written.
SELECT settled.*
FROM settled
JOIN buckets ON ended_at >= since AND ended_at < until
WHERE bucket = $bucket
