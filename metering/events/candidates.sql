-- one row per line of a readable file that is an event; seq counts the lines of the run
SELECT c.seq, c.file_no, c.line, c.source, c.id, c.type, c.subject, c.subject_high, c.subject_low, c.time,
       c.account_id, c.project_id, c.region, c.resource_type, c.resource_id, c.name, c.size_bytes,
       c.retracted_source, c.retracted_id, c.raw
FROM read_candidates c
SEMI JOIN files f ON c.file_no = f.file_no
