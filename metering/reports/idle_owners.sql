-- One currency of accounts without prices of their own (owner is empty), or one account that has some.
SELECT DISTINCT coalesce(o.account_id, '') AS owner, a.currency
FROM current_accounts AS a
LEFT JOIN price_owners AS o ON o.account_id = a.account_id
