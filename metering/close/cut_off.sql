-- One currency of a closed month with open invoices: the least that no card was tried for yet, and whether an attempt's fate is unknown.
SELECT
    i.month,
    i.currency,
    MIN(
        CASE
            WHEN NOT EXISTS (SELECT 1 FROM payments AS p WHERE p.invoice = s.invoice) THEN s.amount_due_minor
        END
    ) AS untried_minor,
    MAX(
        CASE
            WHEN EXISTS (SELECT 1 FROM payments AS p WHERE p.invoice = s.invoice AND p.status = 'unknown') THEN 1
            ELSE 0
        END
    ) AS unknown
FROM invoice_status AS s
JOIN invoices AS i ON i.invoice = s.invoice
WHERE s.status = 'open'
GROUP BY i.month, i.currency
