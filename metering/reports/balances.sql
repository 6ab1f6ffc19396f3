-- One account: what it holds and what it owes.
SELECT
    a.account_id,
    a.currency,
    coalesce(sum(CASE WHEN e.ledger_account IN ('balance', 'reserved') THEN e.credit_minor - e.debit_minor END), 0)
        AS balance,
    coalesce(sum(CASE WHEN e.ledger_account = 'credit' THEN e.credit_minor - e.debit_minor END), 0) AS credit,
    coalesce(sum(CASE WHEN e.ledger_account IN ('receivable', 'carried') THEN e.debit_minor - e.credit_minor END), 0)
        AS owed
FROM asked
JOIN current_accounts AS a ON asked.account_id IS NULL OR a.account_id = asked.account_id
LEFT JOIN entries AS e ON e.account_id = a.account_id
GROUP BY a.account_id, a.currency
ORDER BY a.account_id
