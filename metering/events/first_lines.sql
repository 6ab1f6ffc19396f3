-- one row per identity in this run: the line that brings it first, and how many lines do
SELECT source, id, min(seq) AS seq, count(*) AS lines
FROM candidates
GROUP BY source, id
