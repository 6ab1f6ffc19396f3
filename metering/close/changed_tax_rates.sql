-- The tax rate stored with each close, of each account that has more than one version.
SELECT
    used.month,
    used.account_id,
    versions.tax_rate
FROM (SELECT account_id FROM account_versions GROUP BY account_id HAVING count(*) > 1) AS changed
CROSS JOIN closes
JOIN close_accounts AS used
    ON used.month = closes.month AND used.account_id = changed.account_id
JOIN account_versions AS versions
    ON versions.account_id = used.account_id AND versions.version = used.version
