-- One snapshot that has ended by now and none of whose events is dated after now; also one that never became ready.
SELECT subject_high, subject_low, snapshot_id, hash(snapshot_id) AS owner, ended_at
FROM (
    SELECT
        fates.subject_high,
        fates.subject_low,
        fates.snapshot_id,
        last_at,
        CASE WHEN lifespans.snapshot_id IS NULL THEN own_end ELSE lifespans.ended_at END AS ended_at
    FROM fates
    LEFT JOIN lifespans
        ON lifespans.subject_high = fates.subject_high AND lifespans.subject_low = fates.subject_low
) AS found
CROSS JOIN scope
WHERE last_at <= now_us AND ended_at <= now_us
