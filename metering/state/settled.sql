-- One row: how much can no longer change, and the first and the last end of it.
SELECT count(ended_at) AS settled, min(ended_at) AS first_end, max(ended_at) AS last_end
FROM (SELECT ended_at FROM placed UNION ALL SELECT ended_at FROM placed_vms) AS ends
