-- One snapshot or VM of a folder that is being written: it ended in its part of time, or, without one, can still change.
SELECT segment, placed.*
FROM placed
JOIN target ON ended_at >= since AND ended_at < until
UNION ALL
SELECT segment, placed.*
FROM placed
JOIN target ON since IS NULL AND ended_at IS NULL
