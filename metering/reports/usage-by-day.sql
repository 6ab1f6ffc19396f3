-- One account on one day.
SELECT u.month, u.account_id, d.day, CAST(sum(u.byte_micros) AS DECIMAL(38, 0)) AS gb_hours, CAST(sum(u.snapshots) AS BIGINT) AS snapshots
FROM asked
JOIN project_usage AS u ON asked.account_id IS NULL OR u.account_id = asked.account_id
JOIN days AS d ON d.period_start = u.period_start
GROUP BY u.month, u.account_id, d.day
ORDER BY u.month, u.account_id, d.day
