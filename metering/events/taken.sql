-- one row per identity that lines of this run repeat: the event that holds it, in the lake or in this run
SELECT key, source, id, batch, CAST(NULL AS BIGINT) AS line, type, subject, time,
       account_id, project_id, region, resource_type, resource_id, name, size_bytes,
       retracted_source, retracted_id
FROM known
UNION ALL
SELECT c.key, c.source, c.id, NULL, c.line, c.type, c.subject, c.time,
       c.account_id, c.project_id, c.region, c.resource_type, c.resource_id, c.name, c.size_bytes,
       c.retracted_source, c.retracted_id
FROM candidates c
JOIN new_lines n ON c.line = n.line
WHERE n.lines > 1
