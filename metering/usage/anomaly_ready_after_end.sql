-- One further ready event of a snapshot that had ended by then; it does not start the meter again.
SELECT
    'ready_after_end' AS kind,
    lifespans.snapshot_id,
    lifespans.account_id,
    ready_events.ready_at AS occurred_at,
    'Ready by event ' || id || ' of ' || source || ', yet it had ended; the meter does not start again.' AS detail
FROM ready_events
SEMI JOIN ready_again USING (subject_high, subject_low)
JOIN lifespans ON lifespans.snapshot_id = ready_events.snapshot_id
WHERE (id <> ready_id OR source <> ready_source) AND ready_events.ready_at >= ended_at
