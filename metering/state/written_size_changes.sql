-- One size change of a snapshot of a folder that is being written.
SELECT segment, size_changes.*
FROM size_changes
JOIN moving
    ON NOT is_vm AND moving.subject_high = size_changes.subject_high AND moving.subject_low = size_changes.subject_low
