-- One relation that a query of this connection finds by its bare name: a table, or a view over what was handed in.
SELECT table_name AS name FROM duckdb_tables() WHERE database_name IN (current_database(), 'temp')
UNION ALL
SELECT view_name AS name FROM duckdb_views() WHERE database_name IN (current_database(), 'temp') AND NOT internal
