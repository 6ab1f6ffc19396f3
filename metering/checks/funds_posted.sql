-- One top-up or credit that is not in the book as it was recorded.
SELECT f.reference || ' is not in the book as it was recorded' AS detail
FROM funds AS f
ANTI JOIN entries AS e
    ON e.transaction = f.transaction
    AND e.ledger_account = CASE f.kind WHEN 'topup' THEN 'balance' ELSE 'credit' END
    AND e.account_id = f.account_id AND e.currency = f.currency AND e.credit_minor = f.amount_minor AND e.reference = f.reference
UNION ALL
SELECT 'transaction ' || t.transaction || ' (' || t.kind || ') has no recorded top-up or credit'
FROM transactions AS t
ANTI JOIN funds AS f ON f.transaction = t.transaction AND f.kind = CASE t.kind WHEN 'topup' THEN 'topup' ELSE 'credit' END
WHERE t.kind IN ('topup', 'credit_grant')
