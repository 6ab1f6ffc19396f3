-- One invoice whose recorded withholdings are not what was posted.
SELECT coalesce(w.invoice, p.invoice) || ': what was withheld is not what is recorded' AS detail
FROM (SELECT invoice, sum(amount_minor) AS amount_minor FROM withheld GROUP BY invoice HAVING sum(amount_minor) <> 0) AS w
FULL JOIN (
    SELECT e.invoice, sum(e.debit_minor - e.credit_minor) AS amount_minor
    FROM entries AS e JOIN transactions AS t ON t.transaction = e.transaction
    WHERE t.kind = 'withheld' AND e.ledger_account = 'receivable'
    GROUP BY e.invoice
) AS p ON p.invoice = w.invoice
WHERE w.amount_minor IS DISTINCT FROM p.amount_minor
