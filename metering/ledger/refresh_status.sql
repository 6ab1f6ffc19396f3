-- bring `invoice_status` in step for the invoices in `touched`
INSERT INTO invoice_status (recorded, invoice, account_id, status, amount_due_minor)
SELECT
    i.recorded,
    i.invoice,
    i.account_id,
    CASE
        WHEN EXISTS (SELECT 1 FROM corrections AS c WHERE c.invoice = i.invoice AND c.kind = 'void') THEN 'void'
        WHEN EXISTS (SELECT 1 FROM corrections AS c WHERE c.invoice = i.invoice AND c.kind = 'write_off') THEN 'uncollectible'
        WHEN coalesce(e.receivable_minor, 0) > 0 THEN 'open'
        WHEN coalesce(e.carried_minor, 0) > 0 OR coalesce(e.brought_forward_minor, 0) > 0 THEN 'carried'
        ELSE 'paid'
    END,
    coalesce(e.receivable_minor, 0) + coalesce(e.carried_minor, 0)
FROM touched
JOIN invoices AS i ON i.invoice = touched.invoice
LEFT JOIN (
    SELECT
        n.invoice,
        sum(CASE WHEN n.ledger_account = 'receivable' THEN n.debit_minor - n.credit_minor ELSE 0 END) AS receivable_minor,
        sum(CASE WHEN n.ledger_account = 'carried' THEN n.debit_minor - n.credit_minor ELSE 0 END) AS carried_minor,
        sum(
            CASE
                WHEN n.ledger_account <> 'carried' THEN 0
                WHEN (SELECT t.kind FROM transactions AS t WHERE t."transaction" = n."transaction") IN ('brought_forward', 'sent_back')
                    THEN n.credit_minor - n.debit_minor
                ELSE 0
            END
        ) AS brought_forward_minor
    FROM touched AS w
    JOIN entries AS n ON n.invoice = w.invoice
    GROUP BY n.invoice
) AS e ON e.invoice = i.invoice
WHERE true
ON CONFLICT (invoice) DO UPDATE SET status = excluded.status, amount_due_minor = excluded.amount_due_minor
