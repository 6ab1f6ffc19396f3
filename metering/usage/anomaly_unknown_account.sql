-- One snapshot with usage in the periods whose account is unknown; nobody is billed for it.
-- They are looked for beforehand, because there are next to none; see unknown_accounts.
SELECT
    'unknown_account' AS kind,
    snapshot_id,
    account_id,
    min(used_from) AS occurred_at,
    'Nobody has imported account ' || account_id || '; its usage is not billed.' AS detail
FROM stretch_usage
SEMI JOIN strangers USING (account_id)
GROUP BY snapshot_id, account_id
