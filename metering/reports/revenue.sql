-- One SKU in one region and currency, booked in one month for the usage of one month.
SELECT
    i.month AS booked_month,
    l.month AS usage_month,
    l.sku,
    l.region,
    l.currency,
    CAST(sum(l.byte_micros) AS DECIMAL(38, 0)) AS gb_hours,
    CAST(sum(l.amount_minor) AS BIGINT) AS amount,
    CAST(sum(l.tax_minor) AS BIGINT) AS tax
FROM asked
JOIN invoices AS i
    ON i.month BETWEEN asked.month_from AND asked.month_to
    AND (asked.account_id IS NULL OR i.account_id = asked.account_id)
JOIN invoice_lines AS l ON l.invoice = i.invoice
GROUP BY i.month, l.month, l.sku, l.region, l.currency
ORDER BY i.month, l.month, l.sku, l.region, l.currency
