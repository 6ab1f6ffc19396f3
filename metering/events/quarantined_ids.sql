-- one row per line in quarantine whose id is among $ids
SELECT id
FROM quarantine
WHERE id IN (SELECT unnest($ids))
