-- One file with kept rows of snapshots that had not ended by an instant; without one, each file. The largest is first:
-- by it the engine guesses how many rows all of them have, and on which side of a join it holds what it looks up.
SELECT path
FROM kept_files
WHERE part = $part AND (ended_until IS NULL OR $from_us IS NULL OR ended_until > $from_us)
ORDER BY rows DESC, path
