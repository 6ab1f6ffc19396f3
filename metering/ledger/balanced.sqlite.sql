-- Entries are written before the head of their transaction, which is refused unless they are balanced.
-- The deferred foreign key from entries to transactions refuses entries that no head follows.
CREATE TRIGGER transactions_are_balanced BEFORE INSERT ON transactions
WHEN EXISTS (
    SELECT currency FROM entries WHERE "transaction" = NEW."transaction"
    GROUP BY currency HAVING sum(debit_minor) <> sum(credit_minor)
)
BEGIN SELECT RAISE(ABORT, 'transactions: the entries are not balanced'); END;
CREATE TRIGGER transactions_have_entries BEFORE INSERT ON transactions
WHEN NOT EXISTS (SELECT 1 FROM entries WHERE "transaction" = NEW."transaction")
BEGIN SELECT RAISE(ABORT, 'transactions: there are no entries'); END;
CREATE TRIGGER entries_come_first BEFORE INSERT ON entries
WHEN EXISTS (SELECT 1 FROM transactions WHERE "transaction" = NEW."transaction")
BEGIN SELECT RAISE(ABORT, 'entries: the transaction is complete'); END;
