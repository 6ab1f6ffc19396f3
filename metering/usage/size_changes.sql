-- One resize of a snapshot with the time for which its size holds, and one row for the time before the first
-- (with size_bytes empty); of two resizes at one instant the larger size counts.
SELECT
    subject_high,
    subject_low,
    changed_at,
    lead(changed_at) OVER (PARTITION BY subject_high, subject_low ORDER BY changed_at) AS next_changed_at,
    size_bytes
FROM resizes
UNION ALL
SELECT subject_high, subject_low, NULL AS changed_at, min(changed_at) AS next_changed_at, NULL AS size_bytes
FROM resizes
GROUP BY subject_high, subject_low
