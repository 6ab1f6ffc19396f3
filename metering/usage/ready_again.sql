-- One snapshot with more than one ready event; there are few.
-- Computed once.
SELECT subject_high, subject_low
FROM ready_events
GROUP BY subject_high, subject_low
HAVING count(*) > 1
