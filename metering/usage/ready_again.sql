-- One snapshot with more than one ready event; there are few.
SELECT snapshot_id
FROM ready_events
GROUP BY snapshot_id
HAVING count(*) > 1
