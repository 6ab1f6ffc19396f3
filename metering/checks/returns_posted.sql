-- One invoice whose recorded returns are not what went back on it.
SELECT coalesce(r.invoice, p.invoice) || ': what went back is not what is recorded' AS detail
FROM (SELECT invoice, sum(amount_minor) AS amount_minor FROM returns GROUP BY invoice) AS r
FULL JOIN (
    SELECT e.invoice, sum(e.debit_minor - e.credit_minor) AS amount_minor
    FROM entries AS e JOIN transactions AS t ON t.transaction = e.transaction
    WHERE t.kind IN ('credit_use', 'balance_use', 'credit_return', 'balance_return') AND e.ledger_account = 'receivable' AND e.debit_minor > 0
    GROUP BY e.invoice
) AS p ON p.invoice = r.invoice
WHERE r.amount_minor IS DISTINCT FROM p.amount_minor
