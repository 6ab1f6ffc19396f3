-- One account with open invoices: what is due on them, by whole days of 24 hours since their issue.
WITH open_invoices AS (
    SELECT i.account_id, i.currency, s.amount_due_minor, (asked.now_us - i.issued_at) // 86400000000 AS age_days
    FROM asked
    JOIN invoices AS i
        ON i.month BETWEEN asked.month_from AND asked.month_to
        AND (asked.account_id IS NULL OR i.account_id = asked.account_id)
    JOIN invoice_status AS s ON s.invoice = i.invoice AND s.status = 'open'
)
SELECT
    account_id,
    currency,
    CAST(coalesce(sum(CASE WHEN age_days < 30 THEN amount_due_minor END), 0) AS BIGINT) AS current,
    CAST(coalesce(sum(CASE WHEN age_days >= 30 AND age_days < 60 THEN amount_due_minor END), 0) AS BIGINT) AS days_30,
    CAST(coalesce(sum(CASE WHEN age_days >= 60 AND age_days < 90 THEN amount_due_minor END), 0) AS BIGINT) AS days_60,
    CAST(coalesce(sum(CASE WHEN age_days >= 90 THEN amount_due_minor END), 0) AS BIGINT) AS days_90,
    CAST(sum(amount_due_minor) AS BIGINT) AS total
FROM open_invoices
GROUP BY account_id, currency
ORDER BY account_id, currency
