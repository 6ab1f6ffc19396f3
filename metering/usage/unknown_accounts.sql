-- One account of a snapshot that had not ended before the horizon, which is not known.
SELECT account_id
FROM (SELECT DISTINCT account_id FROM lifespans) AS used
ANTI JOIN accounts USING (account_id)
