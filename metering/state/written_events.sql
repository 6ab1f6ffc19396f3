-- One event of a folder that is being written, of what can still change.
SELECT segment, due_at, lifecycle.*
FROM lifecycle
JOIN moving
    ON is_vm = (type = 'vm.deleted')
    AND moving.subject_high = lifecycle.subject_high
    AND moving.subject_low = lifecycle.subject_low
