-- One line of an issued invoice.
SELECT
    l.invoice,
    l.line,
    l.kind,
    l.month,
    l.account_id,
    l.sku,
    l.region,
    l.byte_micros AS gb_hours,
    l.price_per_gb_hour,
    l.currency,
    l.amount_minor AS amount
FROM asked
JOIN invoices AS i
    ON i.month BETWEEN asked.month_from AND asked.month_to
    AND (asked.account_id IS NULL OR i.account_id = asked.account_id)
JOIN invoice_lines AS l ON l.invoice = i.invoice
ORDER BY l.invoice, l.line
