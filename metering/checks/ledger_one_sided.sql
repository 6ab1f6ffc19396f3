-- One entry that is no debit and no credit, or both, or negative.
SELECT 'entry ' || entry || ' is not one debit or one credit above zero' AS detail
FROM entries
WHERE debit_minor < 0 OR credit_minor < 0 OR (debit_minor = 0) = (credit_minor = 0)
