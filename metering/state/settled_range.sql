-- One row: how much has settled, and the first and the last end of it.
SELECT count(*) AS settled, min(ended_at) AS first_end, max(ended_at) AS last_end
FROM (SELECT ended_at FROM settled UNION ALL SELECT ended_at FROM settled_vms) AS ends
