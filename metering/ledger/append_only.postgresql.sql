-- Rows of {table} are added, never deleted; only the columns listed in schemas/ may ever change.
CREATE TRIGGER {table}_is_kept BEFORE DELETE ON {table}
FOR EACH ROW EXECUTE FUNCTION refuse_change('rows are never deleted');
CREATE TRIGGER {table}_is_never_emptied BEFORE TRUNCATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('rows are never deleted');
CREATE TRIGGER {table}_is_fixed BEFORE UPDATE OF {fixed} ON {table}
FOR EACH ROW EXECUTE FUNCTION refuse_change('rows never change');
