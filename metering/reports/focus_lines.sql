-- One line of an invoice of the month asked for, with what FOCUS says of every row about it.
SELECT
    l.*,
    i.issued_at,
    i.account_version,
    l.invoice || '/' || l.line AS detail_id,
    strftime(make_timestamp(c.period_start), '%Y-%m-%dT%H:%M:%SZ') AS billing_start,
    strftime(make_timestamp(c.period_end), '%Y-%m-%dT%H:%M:%SZ') AS billing_end,
    strftime(make_timestamp(m.period_start), '%Y-%m-%dT%H:%M:%SZ') AS charge_start,
    strftime(make_timestamp(m.period_end), '%Y-%m-%dT%H:%M:%SZ') AS charge_end,
    strftime(make_timestamp(i.issued_at), '%Y-%m-%dT%H:%M:%SZ') AS issued_second,
    strftime(make_timestamp(c.closed_at), '%Y-%m-%dT%H:%M:%SZ') AS closed_second,
    s.called AS resource_type,
    CASE l.kind WHEN 'adjustment' THEN 'Correction' END AS charge_class,
    CAST(l.amount_minor * u.thousandths AS DECIMAL(35, 0)) * CAST(0.001 AS DECIMAL(3, 3)) AS amount,
    CAST(l.tax_minor * u.thousandths AS DECIMAL(35, 0)) * CAST(0.001 AS DECIMAL(3, 3)) AS tax,
    u.thousandths,
    given.*
FROM asked
JOIN invoices AS i ON i.month BETWEEN asked.month_from AND asked.month_to
JOIN invoice_lines AS l ON l.invoice = i.invoice
JOIN closes AS c ON c.month = i.month
JOIN closes AS m ON m.month = l.month
JOIN currency_units AS u ON u.currency = l.currency
LEFT JOIN skus AS s ON s.sku = l.sku
CROSS JOIN given
