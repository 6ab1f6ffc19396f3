-- One file with kept rows of snapshots that had not ended by an instant; without one, each file.
SELECT path
FROM kept_files
WHERE part = $part AND (ended_until IS NULL OR $from_us IS NULL OR ended_until > $from_us)
ORDER BY path
