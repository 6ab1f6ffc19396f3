-- Rows of {table} are added, never deleted; only the columns listed in schemas/ may ever change.
CREATE TRIGGER {table}_is_kept BEFORE DELETE ON {table}
BEGIN SELECT RAISE(ABORT, '{table}: rows are never deleted'); END;
CREATE TRIGGER {table}_is_fixed BEFORE UPDATE OF {fixed} ON {table}
BEGIN SELECT RAISE(ABORT, '{table}: rows never change'); END;
