-- One VM that a ready event at hand is of, or one that is retracted: its deletion ends the snapshot, but is not touched
-- itself.
SELECT vm_high AS subject_high
FROM (FROM gathered UNION ALL BY NAME FROM targets) AS at_hand
WHERE type = 'snapshot.ready' AND vm_high IS NOT NULL
EXCEPT
SELECT subject_high FROM touched
