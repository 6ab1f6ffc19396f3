-- one trigger of the ledger that is switched off
SELECT c.relname || '.' || t.tgname AS name
FROM pg_trigger AS t
JOIN pg_class AS c ON c.oid = t.tgrelid
WHERE c.relnamespace = current_schema()::regnamespace AND t.tgenabled = 'D'
ORDER BY 1
