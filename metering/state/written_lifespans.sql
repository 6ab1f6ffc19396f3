-- One lifespan of a folder that is being written.
SELECT segment, lifespans.*
FROM lifespans
JOIN moving
    ON NOT is_vm AND moving.subject_high = lifespans.subject_high AND moving.subject_low = lifespans.subject_low
