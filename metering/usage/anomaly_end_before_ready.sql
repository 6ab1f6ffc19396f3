-- One snapshot whose earliest end is not after its earliest ready; it is never metered.
SELECT
    'end_before_ready' AS kind,
    snapshot_id,
    account_id,
    ended_at AS occurred_at,
    'It ended at or before it became ready, so it is not metered.' AS detail
FROM lifespans
WHERE ended_at <= ready_at
