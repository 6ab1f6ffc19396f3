-- One invoice whose lines, tax and total do not add up, or whose parts are not its account's.
SELECT i.invoice || ': lines, tax and total do not add up' AS detail
FROM invoices AS i
LEFT JOIN (
    SELECT invoice, sum(amount_minor) AS amount_minor, sum(tax_minor) AS tax_minor FROM invoice_lines GROUP BY invoice
) AS l ON l.invoice = i.invoice
WHERE coalesce(l.amount_minor, 0) <> i.subtotal_minor OR coalesce(l.tax_minor, 0) <> i.tax_minor
    OR i.subtotal_minor + i.tax_minor <> i.total_minor
UNION ALL
SELECT l.invoice || ' line ' || l.line || ' is not of the invoice''s account or currency, or later than its month'
FROM invoice_lines AS l
LEFT JOIN invoices AS i ON i.invoice = l.invoice
WHERE i.invoice IS NULL OR l.account_id <> i.account_id OR l.currency <> i.currency
    OR (l.kind = 'usage') <> (l.month = i.month) OR l.month > i.month OR l.kind NOT IN ('usage', 'adjustment')
UNION ALL
SELECT invoice || ': its lines do not count from 1 without gaps'
FROM invoice_lines GROUP BY invoice HAVING count(*) <> max(line)
UNION ALL
SELECT i.invoice || ' has no lines' FROM invoices AS i ANTI JOIN invoice_lines AS l ON l.invoice = i.invoice
