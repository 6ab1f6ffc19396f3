-- One entry without transaction, transaction without entries, or gap in the counting of either.
SELECT 'entry ' || e.entry || ' has no transaction' AS detail
FROM entries AS e ANTI JOIN transactions AS t ON t.transaction = e.transaction
UNION ALL
SELECT 'transaction ' || t.transaction || ' has no entries'
FROM transactions AS t ANTI JOIN entries AS e ON e.transaction = t.transaction
UNION ALL
SELECT 'entries do not count from 1 without gaps' FROM entries HAVING count(*) <> coalesce(max(entry), 0)
UNION ALL
SELECT 'transactions do not count from 1 without gaps' FROM transactions HAVING count(*) <> coalesce(max(transaction), 0)
