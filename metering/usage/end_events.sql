-- One event that ends a snapshot by itself; what a deleted VM ends is in vm_ends. No other type lies between the two
-- in the order of the alphabet, and unlike a list of types a range lets the scan leave out what is not of it.
SELECT subject, subject_high, subject_low, type, time, source, id
FROM lifecycle
WHERE type BETWEEN 'snapshot.deleted' AND 'snapshot.failed'
