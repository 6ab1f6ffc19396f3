-- One ledger account in one currency: opening, movements and closing of the months in which they were posted.
SELECT
    e.ledger_account,
    e.currency,
    CAST(coalesce(sum(CASE WHEN t.posted_at < asked.time_from THEN e.debit_minor - e.credit_minor END), 0) AS BIGINT) AS opening,
    CAST(coalesce(sum(CASE WHEN t.posted_at >= asked.time_from THEN e.debit_minor END), 0) AS BIGINT) AS debit,
    CAST(coalesce(sum(CASE WHEN t.posted_at >= asked.time_from THEN e.credit_minor END), 0) AS BIGINT) AS credit,
    CAST(sum(e.debit_minor - e.credit_minor) AS BIGINT) AS closing
FROM asked
JOIN entries AS e ON asked.account_id IS NULL OR e.account_id = asked.account_id
JOIN transactions AS t ON t.transaction = e.transaction AND t.posted_at < asked.time_to
GROUP BY e.ledger_account, e.currency
ORDER BY e.ledger_account, e.currency
