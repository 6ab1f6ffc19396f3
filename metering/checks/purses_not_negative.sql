-- One balance, credit, reserve, receivable or carried amount below zero.
SELECT ledger_account || ' of ' || coalesce(owner, 'NULL') || ' is below zero' AS detail
FROM (
    SELECT
        e.ledger_account,
        CASE c.per WHEN 'invoice' THEN e.invoice WHEN 'reference' THEN e.reference ELSE e.account_id END AS owner,
        sum(CASE c.class WHEN 'asset' THEN e.debit_minor - e.credit_minor ELSE e.credit_minor - e.debit_minor END)
            AS held_minor
    FROM entries AS e
    JOIN chart AS c ON c.ledger_account = e.ledger_account
    WHERE c.per IS NOT NULL
    GROUP BY ALL
)
WHERE held_minor < 0
