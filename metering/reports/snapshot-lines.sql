-- One invoice line that a snapshot is on.
SELECT
    l.invoice,
    l.line,
    l.kind,
    l.month,
    l.account_id,
    a.project_id,
    a.byte_micros AS gb_hours,
    l.price_per_gb_hour,
    l.currency,
    a.amount_minor AS amount
FROM asked
JOIN allocations AS a ON a.snapshot_id = asked.snapshot_id
JOIN invoice_lines AS l ON l.invoice = a.invoice AND l.line = a.line
ORDER BY l.invoice, l.line, a.project_id
