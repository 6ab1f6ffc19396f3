-- One size change of a snapshot of the folder that is being written.
SELECT segment, owner, size_changes.*
FROM size_changes
JOIN moving ON moving.subject_high = size_changes.subject_high AND moving.subject_low = size_changes.subject_low
CROSS JOIN target
ORDER BY owner
