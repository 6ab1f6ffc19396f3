-- One transaction and currency whose debits are not its credits.
SELECT 'transaction ' || transaction || ': debits and credits differ in ' || currency AS detail
FROM entries
GROUP BY transaction, currency
HAVING sum(debit_minor) <> sum(credit_minor)
