-- one row per line whose identity is taken: in what it differs from the event that holds it ('' where in nothing)
SELECT c.line, t.batch AS first_batch, t.line AS first_line,
       concat_ws(', ',
           CASE WHEN c.type <> t.type THEN 'type' END,
           CASE WHEN c.subject <> t.subject THEN 'subject' END,
           CASE WHEN c.time <> t.time THEN 'time' END,
           CASE WHEN c.account_id IS DISTINCT FROM t.account_id THEN 'account_id' END,
           CASE WHEN c.project_id IS DISTINCT FROM t.project_id THEN 'project_id' END,
           CASE WHEN c.region IS DISTINCT FROM t.region THEN 'region' END,
           CASE WHEN c.resource_type IS DISTINCT FROM t.resource_type THEN 'resource_type' END,
           CASE WHEN c.resource_id IS DISTINCT FROM t.resource_id THEN 'resource_id' END,
           CASE WHEN c.name IS DISTINCT FROM t.name THEN 'name' END,
           CASE WHEN c.size_bytes IS DISTINCT FROM t.size_bytes THEN 'size_bytes' END,
           CASE WHEN c.retracted_source IS DISTINCT FROM t.retracted_source THEN 'retracted_source' END,
           CASE WHEN c.retracted_id IS DISTINCT FROM t.retracted_id THEN 'retracted_id' END
       ) AS differs
FROM candidates c
JOIN taken t ON c.key = t.key AND c.source = t.source AND c.id = t.id
WHERE t.line IS NULL OR c.line <> t.line
