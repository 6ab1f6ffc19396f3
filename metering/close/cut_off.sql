-- One closed month whose first attempts to charge were not all made or whose fate is not all known.
SELECT DISTINCT i.month
FROM invoice_status AS s
JOIN invoices AS i ON i.invoice = s.invoice
WHERE s.status = 'open'
    AND (
        NOT EXISTS (SELECT 1 FROM payments AS p WHERE p.invoice = s.invoice)
        OR EXISTS (SELECT 1 FROM payments AS p WHERE p.invoice = s.invoice AND p.status = 'unknown')
    )
