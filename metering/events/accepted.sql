-- one row per event that this run adds, by type and time, as the lake stores it
SELECT r.batch, r.ingested_at, c.source, c.id, c.type, c.subject, c.subject_high, c.subject_low, c.time,
       c.account_id, c.project_id, c.region, c.resource_type, c.resource_id, c.name, c.size_bytes,
       c.retracted_source, c.retracted_id, c.raw
FROM candidates c
CROSS JOIN run r
SEMI JOIN new_lines n ON c.seq = n.seq
ORDER BY c.type, c.time, c.seq
