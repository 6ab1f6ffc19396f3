-- One VM of which a snapshot can still change.
SELECT DISTINCT resource_id
FROM ready_events
ANTI JOIN settled USING (subject_high, subject_low)
WHERE resource_type = 'vm'
