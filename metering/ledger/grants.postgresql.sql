-- Rights of the group roles metering_writer (adds rows, changes what may change) and metering_analyst (reads), where
-- the server has them. Run in the ledger's schema by its owner; the engine does so when it makes the tables and in
-- every `metering upgrade`. Nobody gets the right to delete what is booked or to switch off a trigger.
DO $$
DECLARE
    home text := quote_ident(current_schema());
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['metering_writer', 'metering_analyst'] LOOP
        IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('GRANT USAGE ON SCHEMA %s TO %I', home, role);
            EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %s TO %I', home, role);
        END IF;
    END LOOP;
    IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'metering_writer') THEN
        EXECUTE format('GRANT INSERT, UPDATE ON ALL TABLES IN SCHEMA %s TO metering_writer', home);
        REVOKE INSERT, UPDATE ON ledger_version FROM metering_writer;
        GRANT DELETE ON write_turns TO metering_writer;
    END IF;
END $$;
