-- One project of an account in one month of usage, as invoiced so far.
SELECT
    b.month,
    b.account_id,
    b.project_id,
    CAST(sum(b.byte_micros) AS DECIMAL(38, 0)) AS gb_hours,
    CAST(count(DISTINCT CASE WHEN b.is_billed THEN b.snapshot_id END) AS BIGINT) AS snapshots
FROM asked
JOIN issued_shares AS b
    ON b.month BETWEEN asked.month_from AND asked.month_to
    AND (asked.account_id IS NULL OR b.account_id = asked.account_id)
GROUP BY b.month, b.account_id, b.project_id
ORDER BY b.month, b.account_id, b.project_id
