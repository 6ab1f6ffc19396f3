-- one open invoice whose last attempt was declined
SELECT s.invoice
FROM invoice_status AS s
JOIN payments AS p ON p.invoice = s.invoice
WHERE s.status = 'open'
    AND p.status = 'declined'
    AND p.attempt = (SELECT max(l.attempt) FROM payments AS l WHERE l.invoice = s.invoice)
ORDER BY s.invoice
