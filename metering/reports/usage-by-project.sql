-- One project of an account in one month of usage.
SELECT u.month, u.account_id, u.project_id, u.byte_micros AS gb_hours, u.snapshots
FROM asked
JOIN project_usage AS u ON asked.account_id IS NULL OR u.account_id = asked.account_id
ORDER BY u.month, u.account_id, u.project_id
