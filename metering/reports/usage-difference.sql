-- One account in one closed month whose usage is not what was billed.
WITH sides AS (
    SELECT month, account_id, byte_micros AS billed, CAST(0 AS DECIMAL(38, 0)) AS known FROM issued
    UNION ALL
    SELECT month, account_id, CAST(0 AS DECIMAL(38, 0)), byte_micros FROM project_usage
)
SELECT
    b.month,
    b.account_id,
    CAST(sum(b.billed) AS DECIMAL(38, 0)) AS gb_hours_billed,
    CAST(sum(b.known) AS DECIMAL(38, 0)) AS gb_hours_known,
    CAST(sum(b.known) - sum(b.billed) AS DECIMAL(38, 0)) AS gb_hours_difference
FROM asked
JOIN sides AS b
    ON b.month BETWEEN asked.month_from AND asked.month_to
    AND (asked.account_id IS NULL OR b.account_id = asked.account_id)
JOIN closes AS c ON c.month = b.month
GROUP BY b.month, b.account_id
HAVING sum(b.billed) <> sum(b.known)
ORDER BY b.month, b.account_id
