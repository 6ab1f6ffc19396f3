-- One row: how much has ended, and the first and the last end of it.
SELECT count(ended_at) AS ended, min(ended_at) AS first_end, max(ended_at) AS last_end
FROM placed
