-- One thing that was recorded at a time at which no run began, or not at the time of its own run.
WITH dated AS (
    SELECT 'transaction ' || transaction AS thing, posted_at AS happened_at, run FROM transactions
    UNION ALL SELECT 'close of ' || month, closed_at, run FROM closes
    UNION ALL SELECT correction, made_at, run FROM corrections
    UNION ALL SELECT intent, created_at, NULL FROM intents
    UNION ALL SELECT intent, ended_at, NULL FROM intents
    UNION ALL SELECT payment, created_at, NULL FROM payments
    UNION ALL SELECT payment, settled_at, NULL FROM payments
)
SELECT d.thing || ': no run was at that time' AS detail
FROM dated AS d
ANTI JOIN runs AS r ON r.started_at = d.happened_at AND (d.run IS NULL OR r.run = d.run)
WHERE d.happened_at IS NOT NULL
