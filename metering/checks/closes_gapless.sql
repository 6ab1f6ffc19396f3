-- One closed month that does not follow the one before, in its month or its bounds.
SELECT month || ' does not follow ' || before AS detail
FROM (
    SELECT
        month,
        period_start,
        lag(month) OVER (ORDER BY month) AS before,
        lag(period_end) OVER (ORDER BY month) AS before_end
    FROM closes
)
WHERE before IS NOT NULL AND (
    period_start <> before_end
    OR CAST(left(month, 4) AS INTEGER) * 12 + CAST(right(month, 2) AS INTEGER)
        <> CAST(left(before, 4) AS INTEGER) * 12 + CAST(right(before, 2) AS INTEGER) + 1
)
UNION ALL
SELECT i.invoice || ' is of a month that is not closed, or not issued with its close'
FROM invoices AS i
ANTI JOIN closes AS c ON c.month = i.month AND c.closed_at = i.issued_at AND c.events_through = i.events_through
UNION ALL
SELECT i.invoice || ': the account version is not the one that the close used'
FROM invoices AS i
ANTI JOIN close_accounts AS a ON a.month = i.month AND a.account_id = i.account_id AND a.version = i.account_version
