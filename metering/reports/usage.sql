-- One account in one month of usage.
SELECT u.month, u.account_id, CAST(sum(u.byte_micros) AS DECIMAL(38, 0)) AS gb_hours, CAST(sum(u.snapshots) AS BIGINT) AS snapshots
FROM asked
JOIN project_usage AS u ON asked.account_id IS NULL OR u.account_id = asked.account_id
GROUP BY u.month, u.account_id
ORDER BY u.month, u.account_id
