-- One payment that succeeded at the sandbox, as the sandbox should have recorded it.
SELECT p.payment, n.gateway_ref, p.invoice, n.customer, p.amount_minor, p.currency
FROM payments AS p
JOIN intents AS n ON n.intent = p.intent
WHERE p.status = 'succeeded' AND p.gateway = 'sandbox'
