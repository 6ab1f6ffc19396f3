-- one row per bad line of this run
SELECT line, reason, message, raw,
       NULL AS source, NULL AS event_id, NULL AS subject, NULL AS account_id
FROM read_faults
UNION ALL
SELECT line, reason, message, raw, source, event_id, subject, account_id FROM conflicts
