-- One deleted VM of the folder that is being written; see moving.
SELECT placed_vms.*
FROM placed_vms
WHERE (ended_at >= $since AND ended_at < $until) OR ($since IS NULL AND ended_at IS NULL)
