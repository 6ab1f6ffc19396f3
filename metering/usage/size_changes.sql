-- One resize of a snapshot with the time for which its size holds, and one row for the time before the first
-- (with size_bytes empty); of two resizes at one instant the larger size counts.
WITH changes AS (
    SELECT subject AS snapshot_id, time AS changed_at, max(size_bytes) AS size_bytes
    FROM lifecycle
    WHERE type = 'snapshot.resized'
    GROUP BY subject, time
)
SELECT
    snapshot_id,
    changed_at,
    lead(changed_at) OVER (PARTITION BY snapshot_id ORDER BY changed_at) AS next_changed_at,
    size_bytes
FROM changes
UNION ALL
SELECT snapshot_id, NULL AS changed_at, min(changed_at) AS next_changed_at, NULL AS size_bytes
FROM changes
GROUP BY snapshot_id
