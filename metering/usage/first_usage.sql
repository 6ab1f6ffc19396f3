-- One row: the first instant that was metered, empty if there is none.
SELECT min(stretch_start) AS used_from
FROM stretches
CROSS JOIN scope
WHERE stretch_start < now_us
