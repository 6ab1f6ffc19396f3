-- one row: an invoice with what is owed on it, what is set aside for it, and its account's card as it is now
SELECT
    i.invoice,
    i.account_id,
    i.currency,
    s.status,
    coalesce(sum(CASE WHEN e.ledger_account = 'receivable' THEN e.debit_minor - e.credit_minor END), 0) AS receivable_minor,
    coalesce(sum(CASE WHEN e.ledger_account = 'carried' THEN e.debit_minor - e.credit_minor END), 0) AS carried_minor,
    coalesce(sum(CASE WHEN e.ledger_account = 'reserved' THEN e.credit_minor - e.debit_minor END), 0) AS reserved_minor,
    a.payment_customer AS customer,
    a.payment_method,
    (SELECT count(*) FROM intents AS n WHERE n.invoice = i.invoice) AS intents_made
FROM invoices AS i
JOIN invoice_status AS s ON s.invoice = i.invoice
JOIN account_versions AS a
    ON a.account_id = i.account_id
    AND a.version = (SELECT max(v.version) FROM account_versions AS v WHERE v.account_id = i.account_id)
LEFT JOIN entries AS e ON e.invoice = i.invoice
WHERE i.invoice = :invoice
GROUP BY i.invoice, i.account_id, i.currency, s.status, a.payment_customer, a.payment_method
