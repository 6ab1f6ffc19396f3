-- One snapshot of the folder that is being written: it ended in a part of time, or, without one, can still change.
SELECT placed.*
FROM placed
WHERE (ended_at >= $since AND ended_at < $until) OR ($since IS NULL AND ended_at IS NULL)
