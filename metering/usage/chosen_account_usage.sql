-- One snapshot of a chosen account in one period in which it was metered.
SELECT snapshot_usage.*
FROM snapshot_usage
SEMI JOIN chosen_accounts USING (account_id)
