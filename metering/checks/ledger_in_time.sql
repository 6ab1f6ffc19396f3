-- One transaction that was posted before the one before it, or by a run that is not recorded.
SELECT 'transaction ' || t.transaction || ' is dated before transaction ' || p.transaction AS detail
FROM transactions AS t
JOIN transactions AS p ON p.transaction = t.transaction - 1
WHERE t.posted_at < p.posted_at
UNION ALL
SELECT 'transaction ' || t.transaction || ' belongs to no recorded run'
FROM transactions AS t ANTI JOIN runs AS r ON r.run = t.run
