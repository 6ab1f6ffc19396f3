-- one row: the balance of an account, without what is set aside
SELECT coalesce(sum(credit_minor - debit_minor), 0) AS balance_minor
FROM entries
WHERE ledger_account = 'balance' AND account_id = :account_id
