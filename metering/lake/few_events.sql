-- one row: it is there where the events of a connection fit into memory easily
SELECT 1 AS few
