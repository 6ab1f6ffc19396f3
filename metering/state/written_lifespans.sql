-- One lifespan of the folder that is being written.
SELECT segment, owner, lifespans.*
FROM lifespans
JOIN moving ON moving.subject_high = lifespans.subject_high AND moving.subject_low = lifespans.subject_low
CROSS JOIN target
ORDER BY owner
