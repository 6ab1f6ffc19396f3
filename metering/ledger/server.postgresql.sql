-- What a server needs beside the tables: the schema's version, the writers' turns, and what triggers call.
CREATE TABLE ledger_version (version bigint NOT NULL);
COMMENT ON TABLE ledger_version IS 'One row: the version of the ledger''s schema.';
CREATE UNIQUE INDEX ledger_version_is_one ON ledger_version ((true));

CREATE TABLE write_turns (turn bigint PRIMARY KEY, token text NOT NULL);
COMMENT ON TABLE write_turns IS
    'One row per recent write transaction. Writers lock it, so that they take turns; a writer whose connection was cut
during its COMMIT looks here whether that took place.';

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_TABLE_NAME || ': ' || TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
END $$;
