-- One entry of the book; --month asks for the entries of that month's invoices.
SELECT
    e.entry,
    e.transaction,
    t.posted_at,
    t.kind,
    e.ledger_account,
    e.account_id,
    e.currency,
    e.debit_minor AS debit,
    e.credit_minor AS credit,
    e.invoice,
    e.payment,
    e.reference
FROM asked
JOIN entries AS e ON asked.account_id IS NULL OR e.account_id = asked.account_id
JOIN transactions AS t ON t.transaction = e.transaction
LEFT JOIN invoices AS i ON i.invoice = e.invoice
WHERE asked.is_all OR i.month BETWEEN asked.month_from AND asked.month_to
ORDER BY e.entry
