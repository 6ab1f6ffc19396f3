-- one row per event that looked like a repeat and is none
SELECT s.*
FROM suspects s
SEMI JOIN new_lines n ON s.line = n.line
