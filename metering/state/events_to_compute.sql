-- One event by which what is touched is computed, or a retraction.
FROM gathered
UNION ALL BY NAME
FROM standing_deletions
UNION ALL BY NAME
FROM known_retractions
