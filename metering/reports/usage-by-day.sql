-- One account on one day.
WITH used AS (
    SELECT
        u.month,
        u.account_id,
        u.period_start,
        CAST(sum(u.byte_micros) AS DECIMAL(38, 0)) AS gb_hours,
        CAST(sum(u.snapshots) AS BIGINT) AS snapshots
    FROM asked
    JOIN stretch_usage AS u ON asked.account_id IS NULL OR u.account_id = asked.account_id
    GROUP BY u.month, u.account_id, u.period_start
)
SELECT used.month, used.account_id, d.day, used.gb_hours, used.snapshots
FROM used
JOIN days AS d ON d.period_start = used.period_start
ORDER BY used.month, used.account_id, d.day
