-- one row per event of the lake that this run brings again
SELECT f.key, e.source, e.id, e.batch, e.type, e.subject, e.time,
       e.account_id, e.project_id, e.region, e.resource_type, e.resource_id, e.name, e.size_bytes,
       e.retracted_source, e.retracted_id
FROM met_batches e
JOIN first_lines f ON e.source = f.source AND e.id = f.id
