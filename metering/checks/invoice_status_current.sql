-- One invoice whose kept status or amount due is not what its entries and corrections say.
SELECT i.invoice || ': kept as ' || coalesce(s.status || ' ' || s.amount_due_minor, 'nothing') || ', is ' || i.status || ' ' || i.due_minor AS detail
FROM (
    SELECT
        i.invoice,
        i.account_id,
        coalesce(e.receivable_minor, 0) + coalesce(e.carried_minor, 0) AS due_minor,
        CASE
            WHEN 'void' IN (SELECT kind FROM corrections AS c WHERE c.invoice = i.invoice) THEN 'void'
            WHEN 'write_off' IN (SELECT kind FROM corrections AS c WHERE c.invoice = i.invoice) THEN 'uncollectible'
            WHEN coalesce(e.receivable_minor, 0) > 0 THEN 'open'
            WHEN coalesce(e.carried_minor, 0) > 0 OR coalesce(e.brought_forward_minor, 0) > 0 THEN 'carried'
            ELSE 'paid'
        END AS status
    FROM invoices AS i
    LEFT JOIN (
        SELECT
            n.invoice,
            sum(CASE WHEN n.ledger_account = 'receivable' THEN n.debit_minor - n.credit_minor ELSE 0 END) AS receivable_minor,
            sum(CASE WHEN n.ledger_account = 'carried' THEN n.debit_minor - n.credit_minor ELSE 0 END) AS carried_minor,
            sum(CASE WHEN n.ledger_account = 'carried' AND t.kind IN ('brought_forward', 'sent_back') THEN n.credit_minor - n.debit_minor ELSE 0 END)
                AS brought_forward_minor
        FROM entries AS n
        JOIN transactions AS t ON t.transaction = n.transaction
        WHERE n.invoice IS NOT NULL
        GROUP BY n.invoice
    ) AS e ON e.invoice = i.invoice
) AS i
LEFT JOIN invoice_status AS s ON s.invoice = i.invoice AND s.account_id = i.account_id
WHERE s.status IS DISTINCT FROM i.status OR s.amount_due_minor IS DISTINCT FROM i.due_minor
UNION ALL
SELECT s.invoice || ': a status without an invoice' FROM invoice_status AS s ANTI JOIN invoices AS i ON i.invoice = s.invoice
