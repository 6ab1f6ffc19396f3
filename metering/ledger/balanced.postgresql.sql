-- Entries are written before the head of their transaction, which is refused unless they are balanced.
-- The deferred foreign key from entries to transactions refuses entries that no head follows.
CREATE FUNCTION check_transaction() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM entries AS e WHERE e."transaction" = NEW."transaction") THEN
        RAISE EXCEPTION 'transactions: there are no entries' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF EXISTS (
        SELECT e.currency FROM entries AS e WHERE e."transaction" = NEW."transaction"
        GROUP BY e.currency HAVING sum(e.debit_minor) <> sum(e.credit_minor)
    ) THEN
        RAISE EXCEPTION 'transactions: the entries are not balanced' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER transactions_are_balanced BEFORE INSERT ON transactions
FOR EACH ROW EXECUTE FUNCTION check_transaction();

CREATE FUNCTION check_entry() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM transactions AS t WHERE t."transaction" = NEW."transaction") THEN
        RAISE EXCEPTION 'entries: the transaction is complete' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER entries_come_first BEFORE INSERT ON entries
FOR EACH ROW EXECUTE FUNCTION check_entry();
