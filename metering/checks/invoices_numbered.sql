-- One invoice whose number is not the next of its month in the order of account ids.
SELECT invoice || ' should be ' || expected AS detail
FROM (
    SELECT
        invoice,
        'INV-' || month || '-' || lpad(CAST(row_number() OVER (PARTITION BY month ORDER BY account_id) AS VARCHAR), 6, '0')
            AS expected
    FROM invoices
)
WHERE invoice <> expected
