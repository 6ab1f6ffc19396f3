-- one row per attempt on an invoice, in their order
SELECT
    p.payment,
    p.attempt,
    p.intent,
    coalesce(n.customer, '') AS customer,
    p.payment_method,
    p.amount_minor,
    p.status,
    p.reason,
    p.retryable,
    p.charge,
    p.created_at,
    p.settled_at
FROM payments AS p
LEFT JOIN intents AS n ON n.intent = p.intent
WHERE p.invoice = :invoice
ORDER BY p.attempt
