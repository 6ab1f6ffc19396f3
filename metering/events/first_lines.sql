-- one row per identity among the candidates: the line that brings it first, and how many lines do
SELECT key, source, id, min(line) AS line, count(*) AS lines
FROM candidates
GROUP BY key, source, id
