-- One relation that this connection has: a table, or a view over files or tables that were handed in.
SELECT table_name AS name FROM duckdb_tables()
UNION ALL
SELECT view_name AS name FROM duckdb_views() WHERE NOT internal
