-- One touched snapshot or VM with events that count. ended_at is empty where it can still change: it has not ended by
-- now, or one of its events is dated after now; due_at is when it will have ended, empty where that is not known.
-- A snapshot that never became ready has ended with its own end.
SELECT
    subject_high,
    subject_low,
    is_vm,
    subject,
    CASE WHEN due_at <= now_us THEN fate END AS ended_at,
    due_at
FROM (
    SELECT own.*, CASE WHEN fate > last_at THEN fate WHEN fate <= last_at THEN last_at END AS due_at
    FROM (
        SELECT
            fates.*,
            CASE WHEN lifespans.subject_high IS NULL THEN own_end ELSE lifespans.ended_at END AS fate
        FROM fates
        LEFT JOIN lifespans
            ON NOT is_vm
            AND lifespans.subject_high = fates.subject_high
            AND lifespans.subject_low = fates.subject_low
    ) AS own
) AS found
CROSS JOIN scope
WHERE NOT is_vm OR subject_high IN (SELECT subject_high FROM touched)
