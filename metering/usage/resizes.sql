-- One instant at which a snapshot was resized; of two resizes at one instant the larger size counts.
-- Computed once.
SELECT subject_high, subject_low, time AS changed_at, max(size_bytes) AS size_bytes
FROM lifecycle
WHERE type = 'snapshot.resized'
GROUP BY subject_high, subject_low, time
