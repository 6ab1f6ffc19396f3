-- One snapshot with events that count; ended_at is empty where it can still change: it has not ended by now, or one
-- of its events is dated after now. One that never became ready has ended with its own end.
SELECT
    found.subject_high,
    found.subject_low,
    found.snapshot_id,
    hash(found.snapshot_id) AS owner,
    CASE WHEN last_at <= now_us AND fate <= now_us THEN fate END AS ended_at
FROM (
    SELECT
        own.subject_high,
        own.subject_low,
        own.snapshot_id,
        own.last_at,
        CASE WHEN lifespans.snapshot_id IS NULL THEN own.own_end ELSE lifespans.ended_at END AS fate
    FROM fates AS own
    LEFT JOIN lifespans ON lifespans.subject_high = own.subject_high AND lifespans.subject_low = own.subject_low
) AS found
CROSS JOIN scope
