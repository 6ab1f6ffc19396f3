-- One snapshot in one month of usage, as invoiced so far, with its usage in that month as it is known now, if there is any.
-- Computed once.
SELECT b.*, u.snapshot_id AS used_id, u.name, u.size_bytes, u.ready_at, u.ended_at
FROM asked
JOIN issued_shares AS b
    ON b.month BETWEEN asked.month_from AND asked.month_to
    AND (asked.account_id IS NULL OR b.account_id = asked.account_id)
LEFT JOIN usage_by_snapshot AS u ON u.snapshot_id = b.snapshot_id AND u.month = b.month
WHERE b.is_billed
