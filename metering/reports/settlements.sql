-- One invoice on which money moved: what credit, balance and card have paid of it so far.
SELECT
    n.invoice,
    sum(CASE WHEN n.ledger_account = 'credit' AND t.kind IN ('credit_use', 'credit_return') THEN n.debit_minor - n.credit_minor ELSE 0 END)
        AS credit_applied,
    sum(
        CASE
            WHEN n.ledger_account IN ('balance', 'reserved')
                AND t.kind IN ('balance_use', 'balance_return', 'carried_pay', 'set_aside', 'set_free', 'reserved_use')
                THEN n.debit_minor - n.credit_minor
            ELSE 0
        END
    ) AS balance_applied,
    sum(CASE WHEN n.ledger_account = 'gateway' AND t.kind IN ('card_payment', 'card_surplus') THEN n.debit_minor - n.credit_minor ELSE 0 END)
        AS card_charged
FROM entries AS n
JOIN transactions AS t ON t.transaction = n.transaction
WHERE n.invoice IS NOT NULL
GROUP BY n.invoice
