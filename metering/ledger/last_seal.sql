-- One sealed table: its last seal, if it has any.
SELECT * FROM (
    SELECT sealed_table, hash, through FROM seals WHERE sealed_table = '{table}' ORDER BY seal DESC LIMIT 1
) AS last
