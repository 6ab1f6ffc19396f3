-- The currency stored with the close of a month, of each account that had another one later.
SELECT DISTINCT
    used.account_id,
    stored.currency
FROM close_accounts AS used
JOIN account_versions AS stored
    ON stored.account_id = used.account_id AND stored.version = used.version
JOIN account_versions AS later
    ON later.account_id = used.account_id AND later.version > used.version AND later.currency <> stored.currency
WHERE used.month = :month
