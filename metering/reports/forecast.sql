-- One account in one month that is not closed: what has come together, and what it will be.
SELECT f.*
FROM asked
JOIN forecast_rows AS f ON asked.account_id IS NULL OR f.account_id = asked.account_id
ORDER BY f.month, f.account_id
