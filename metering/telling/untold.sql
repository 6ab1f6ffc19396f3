-- one notice that was never told: of an issued invoice, or of an attempt that failed or waits for the customer
SELECT 'invoice.issued.' || i.invoice AS notice, 'invoice.issued' AS kind, i.invoice AS subject,
       i.account_id, i.invoice, NULL AS payment, i.currency, i.total_minor AS amount_minor,
       i.issued_at AS happened_at, NULL AS reason, NULL AS retryable
FROM invoices AS i
WHERE NOT EXISTS (SELECT 1 FROM notices AS n WHERE n.notice = 'invoice.issued.' || i.invoice)
UNION ALL
SELECT 'payment.failed.' || p.payment, 'payment.failed', p.payment,
       p.account_id, p.invoice, p.payment, p.currency, p.amount_minor,
       coalesce(p.settled_at, p.created_at), coalesce(p.reason, p.status), p.retryable
FROM payments AS p
WHERE p.status IN ('declined', 'no_card')
  AND NOT EXISTS (SELECT 1 FROM notices AS n WHERE n.notice = 'payment.failed.' || p.payment)
UNION ALL
SELECT 'payment.action_required.' || p.payment, 'payment.action_required', p.payment,
       p.account_id, p.invoice, p.payment, p.currency, p.amount_minor,
       coalesce(p.settled_at, p.created_at), coalesce(p.reason, p.status), p.retryable
FROM payments AS p
WHERE p.status = 'action_required'
  AND NOT EXISTS (SELECT 1 FROM notices AS n WHERE n.notice = 'payment.action_required.' || p.payment)
ORDER BY 1
