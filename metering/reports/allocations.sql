-- One snapshot's share of an invoice line.
SELECT
    a.invoice,
    a.line,
    a.account_id,
    a.project_id,
    a.snapshot_id,
    a.byte_micros AS gb_hours,
    a.currency,
    a.amount_minor AS amount
FROM asked
JOIN invoices AS i
    ON i.month BETWEEN asked.month_from AND asked.month_to
    AND (asked.account_id IS NULL OR i.account_id = asked.account_id)
JOIN allocations AS a ON a.invoice = i.invoice
ORDER BY a.invoice, a.line, a.project_id, a.snapshot_id
