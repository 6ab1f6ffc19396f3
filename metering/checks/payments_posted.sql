-- One payment that succeeded and is not in the book with its amount, or posting without such a payment.
SELECT p.payment || ' succeeded, but ' || coalesce(g.captured_minor, 0) || ' is in the book instead of ' || p.amount_minor AS detail
FROM payments AS p
LEFT JOIN (
    SELECT e.payment, sum(e.debit_minor - e.credit_minor) AS captured_minor
    FROM entries AS e JOIN transactions AS t ON t.transaction = e.transaction
    WHERE e.ledger_account = 'gateway' AND t.kind IN ('card_payment', 'card_surplus')
    GROUP BY e.payment
) AS g ON g.payment = p.payment
WHERE (p.status = 'succeeded' AND coalesce(g.captured_minor, 0) <> p.amount_minor)
    OR (p.status <> 'succeeded' AND g.captured_minor IS NOT NULL)
UNION ALL
SELECT 'entry ' || e.entry || ' names the payment ' || e.payment || ', which does not exist'
FROM entries AS e ANTI JOIN payments AS p ON p.payment = e.payment AND p.account_id = e.account_id
WHERE e.payment IS NOT NULL
