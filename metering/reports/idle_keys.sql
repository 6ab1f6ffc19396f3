-- One account × SKU × region with an idle snapshot, and the account's currency; unknown accounts have none.
SELECT DISTINCT a.account_id, a.sku, a.region, c.currency
FROM asked
JOIN alive AS a
    ON asked.now_us - a.ready_at > asked.days * 86400000000
    AND (asked.account_id IS NULL OR a.account_id = asked.account_id)
JOIN current_accounts AS c ON c.account_id = a.account_id
