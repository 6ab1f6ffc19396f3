-- One row: the first instant that was metered, empty if there is none; see first_usage.
SELECT min(ready_at) AS used_from
FROM stored_of_all_time
ANTI JOIN superseded USING (segment, subject_high)
CROSS JOIN scope
WHERE ready_at < now_us AND coalesce(ended_at > ready_at, TRUE)
