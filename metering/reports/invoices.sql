-- One issued invoice, with how it was settled.
SELECT
    i.invoice,
    i.month,
    i.account_id,
    i.currency,
    i.subtotal_minor AS subtotal,
    i.tax_minor AS tax,
    i.total_minor AS total,
    i.brought_forward_minor AS brought_forward,
    coalesce(e.credit_applied, 0) AS credit_applied,
    coalesce(e.balance_applied, 0) AS balance_applied,
    coalesce(e.card_charged, 0) AS card_charged,
    s.amount_due_minor AS amount_due,
    s.status,
    i.issued_at,
    i.events_through
FROM asked
JOIN invoices AS i
    ON i.month BETWEEN asked.month_from AND asked.month_to
    AND (asked.account_id IS NULL OR i.account_id = asked.account_id)
JOIN invoice_status AS s ON s.invoice = i.invoice
LEFT JOIN settlements AS e ON e.invoice = i.invoice
ORDER BY i.invoice
