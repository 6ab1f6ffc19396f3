-- One table of the ledger: its last row in the order of recording, 0 where it is empty.
SELECT '{table}' AS name, coalesce(max("{counter}"), 0) AS last FROM "{table}"
