-- one row per candidate that is the first line of an event which this run adds
SELECT f.line, f.key, f.source, f.id, f.lines
FROM first_lines f
ANTI JOIN known k ON f.key = k.key AND f.source = k.source AND f.id = k.id
