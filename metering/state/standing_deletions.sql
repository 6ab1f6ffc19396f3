-- One deletion, known before, of a VM of which a snapshot is at hand.
SELECT past_events.*
FROM past_events
SEMI JOIN vms_at_hand USING (subject_high)
WHERE type = 'vm.deleted'
UNION ALL BY NAME
SELECT open_events.* EXCLUDE (segment, due_at)
FROM open_events
SEMI JOIN vms_at_hand USING (subject_high)
WHERE type = 'vm.deleted'
