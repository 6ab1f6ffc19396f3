-- one row per line that may claim an identity that is taken, or holds one that another may claim
SELECT s.line, s.key, s.source, s.id, s.type, s.subject, s.time,
       s.account_id, s.project_id, s.region, s.resource_type, s.resource_id, s.name, s.size_bytes,
       s.retracted_source, s.retracted_id
FROM suspects s
UNION ALL
SELECT f.line, f.key, f.source, f.id, f.type, f.subject, f.time,
       f.account_id, f.project_id, f.region, f.resource_type, f.resource_id, f.name, f.size_bytes,
       f.retracted_source, f.retracted_id
FROM fresh f
SEMI JOIN suspects s ON f.key = s.key
