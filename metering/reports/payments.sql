-- One attempt to charge a card.
SELECT
    p.payment,
    p.invoice,
    p.attempt,
    p.account_id,
    p.currency,
    p.amount_minor AS amount,
    p.gateway,
    n.gateway_ref,
    p.status,
    p.reason,
    p.created_at,
    p.settled_at
FROM asked
JOIN invoices AS i
    ON i.month BETWEEN asked.month_from AND asked.month_to
    AND (asked.account_id IS NULL OR i.account_id = asked.account_id)
JOIN payments AS p ON p.invoice = i.invoice
LEFT JOIN intents AS n ON n.intent = p.intent
ORDER BY p.invoice, p.attempt
