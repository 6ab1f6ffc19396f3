-- One account with what its costs are told in; owner is the account where it has prices of its own, else empty.
SELECT a.account_id, a.currency, coalesce(o.account_id, '') AS owner, u.minor_units, u.gb_hour, u.denominator
FROM current_accounts AS a
JOIN cost_units AS u ON u.currency = a.currency
LEFT JOIN price_owners AS o ON o.account_id = a.account_id
