-- one row per event that this run adds
SELECT f.seq, f.source, f.id, f.lines
FROM first_lines f
ANTI JOIN known k ON f.source = k.source AND f.id = k.id
