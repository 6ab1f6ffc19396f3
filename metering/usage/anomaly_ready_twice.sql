-- One ready event of a snapshot that another ready event had made ready before.
SELECT
    'ready_twice' AS kind,
    lifespans.snapshot_id,
    lifespans.account_id,
    ready_events.ready_at AS occurred_at,
    'Ready again by event ' || id || ' of ' || source || '; the earliest ready counts.' AS detail
FROM ready_events
SEMI JOIN ready_again USING (subject_high, subject_low)
JOIN lifespans ON lifespans.snapshot_id = ready_events.snapshot_id
WHERE id <> ready_id OR source <> ready_source
