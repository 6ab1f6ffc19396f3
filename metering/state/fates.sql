-- One snapshot or deleted VM of which events that count are at hand: its latest event, and its own earliest end.
SELECT
    subject_high,
    subject_low,
    type = 'vm.deleted' AS is_vm,
    min(subject) AS subject,
    max(time) AS last_at,
    min(CASE WHEN type NOT IN ('snapshot.creating', 'snapshot.ready', 'snapshot.resized') THEN time END) AS own_end
FROM lifecycle
GROUP BY subject_high, subject_low, type = 'vm.deleted'
