-- One invoice line whose allocations do not add up to it, or allocation without its line.
SELECT l.invoice || ' line ' || l.line || ': its allocations do not add up to it' AS detail
FROM invoice_lines AS l
LEFT JOIN (
    SELECT invoice, line, sum(amount_minor) AS amount_minor, sum(byte_micros) AS byte_micros
    FROM allocations GROUP BY invoice, line
) AS a ON a.invoice = l.invoice AND a.line = l.line
WHERE coalesce(a.amount_minor, 0) <> l.amount_minor OR coalesce(a.byte_micros, 0) <> l.byte_micros
UNION ALL
SELECT a.invoice || ' line ' || a.line || ': an allocation to ' || a.snapshot_id || ' without its line'
FROM allocations AS a
ANTI JOIN invoice_lines AS l ON l.invoice = a.invoice AND l.line = a.line AND l.account_id = a.account_id
