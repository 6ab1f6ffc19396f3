-- one row per invoice that a collect has to look at: open, with a live intent, or owing what was carried, by an account with balance
SELECT account_id, invoice FROM invoice_status WHERE status = 'open'
UNION
SELECT i.account_id, i.invoice
FROM intents AS n
JOIN invoices AS i ON i.invoice = n.invoice
WHERE n.live = 1
UNION
SELECT s.account_id, s.invoice
FROM invoice_status AS s
WHERE s.status IN ('carried', 'void') AND s.amount_due_minor > 0 AND (
    SELECT sum(e.credit_minor - e.debit_minor)
    FROM entries AS e
    WHERE e.ledger_account = 'balance' AND e.account_id = s.account_id
) > 0
ORDER BY 1, 2
