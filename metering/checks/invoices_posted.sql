-- One invoice whose postings are not its subtotal, tax, total or brought forward.
SELECT i.invoice || ': what was posted is not what was invoiced' AS detail
FROM invoices AS i
LEFT JOIN (
    SELECT
        e.invoice,
        sum(CASE WHEN t.kind = 'invoice' AND e.ledger_account = 'revenue' THEN e.credit_minor - e.debit_minor ELSE 0 END) AS subtotal_minor,
        sum(CASE WHEN t.kind = 'invoice' AND e.ledger_account = 'tax' THEN e.credit_minor - e.debit_minor ELSE 0 END) AS tax_minor,
        sum(CASE WHEN t.kind = 'invoice' AND e.ledger_account = 'receivable' THEN e.debit_minor - e.credit_minor ELSE 0 END) AS total_minor,
        sum(CASE WHEN t.kind IN ('brought_forward', 'withheld') AND e.ledger_account = 'receivable' THEN e.debit_minor - e.credit_minor ELSE 0 END)
            AS brought_forward_minor
    FROM entries AS e
    JOIN transactions AS t ON t.transaction = e.transaction
    WHERE e.invoice IS NOT NULL
    GROUP BY e.invoice
) AS p ON p.invoice = i.invoice
WHERE coalesce(p.subtotal_minor, 0) <> i.subtotal_minor
    OR coalesce(p.tax_minor, 0) <> i.tax_minor
    OR coalesce(p.total_minor, 0) <> i.total_minor
    OR coalesce(p.brought_forward_minor, 0) <> i.brought_forward_minor
UNION ALL
SELECT 'entry ' || e.entry || ' names the invoice ' || e.invoice || ', which does not exist or is another account''s'
FROM entries AS e
ANTI JOIN invoices AS i ON i.invoice = e.invoice AND i.account_id = e.account_id AND i.currency = e.currency
WHERE e.invoice IS NOT NULL
