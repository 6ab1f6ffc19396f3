-- One VM of which a snapshot can still change.
SELECT DISTINCT resource_id
FROM ready_events
SEMI JOIN (SELECT subject_high, subject_low FROM placed WHERE ended_at IS NULL) AS changing
    USING (subject_high, subject_low)
WHERE resource_type = 'vm'
