-- One entry in a ledger account that the chart does not have, or of an account or currency that is not known.
SELECT 'entry ' || e.entry || ': ledger account ' || e.ledger_account || ' is not in the chart' AS detail
FROM entries AS e ANTI JOIN chart AS c ON c.ledger_account = e.ledger_account
UNION ALL
SELECT 'entry ' || e.entry || ': account ' || coalesce(e.account_id, 'NULL') || ' has no ' || e.currency || ' account'
FROM entries AS e ANTI JOIN account_versions AS a ON a.account_id = e.account_id AND a.currency = e.currency
