-- One account that conflicts concern: it pays for the snapshot, or the refused line names it; NULL where nobody does.
SELECT account_id, count(DISTINCT detail) AS lines
FROM (
    SELECT account_id, detail FROM anomaly_conflict
    UNION ALL
    SELECT account_id, 'Quarantined line ' || id || ': ' || message AS detail
    FROM quarantine
    ANTI JOIN resolved_lines USING (id)
    WHERE reason = 'conflict' AND account_id > ''
) AS concerned
GROUP BY account_id
