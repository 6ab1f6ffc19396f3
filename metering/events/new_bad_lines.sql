-- one row per bad line of this run that the quarantine does not hold yet
SELECT b.id, b.line, b.reason, b.first
FROM bad_keys b
ANTI JOIN quarantine q ON q.id = b.id
QUALIFY row_number() OVER (PARTITION BY b.id ORDER BY b.line) = 1
