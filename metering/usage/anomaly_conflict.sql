-- One quarantined repeat that contradicts the event it repeats and that nobody has put aside; where that event is
-- a VM's deletion, one row per vm snapshot of the VM.
SELECT
    'conflict' AS kind,
    snapshot_id,
    coalesce(payer, named) AS account_id,
    ingested_at AS occurred_at,
    'Quarantined line ' || id || ': ' || message AS detail
FROM refused_repeats
