-- One movement of an account's money, between an opening and a closing row; of the months in which it was posted.
WITH moves AS (
    SELECT
        e.account_id,
        e.currency,
        t.transaction,
        t.posted_at,
        t.kind,
        coalesce(max(e.payment), max(e.invoice), max(e.reference)) AS document,
        sum(CASE WHEN e.ledger_account IN ('balance', 'reserved') THEN e.credit_minor - e.debit_minor ELSE 0 END) AS balance_change,
        sum(CASE WHEN e.ledger_account = 'credit' THEN e.credit_minor - e.debit_minor ELSE 0 END) AS credit_change,
        sum(CASE WHEN e.ledger_account IN ('receivable', 'carried') THEN e.debit_minor - e.credit_minor ELSE 0 END) AS owed_change
    FROM asked
    JOIN entries AS e ON asked.account_id IS NULL OR e.account_id = asked.account_id
    JOIN transactions AS t ON t.transaction = e.transaction AND t.posted_at < asked.time_to
    GROUP BY e.account_id, e.currency, t.transaction, t.posted_at, t.kind
),
running AS (
    SELECT
        *,
        sum(balance_change) OVER (PARTITION BY account_id ORDER BY transaction) AS balance,
        sum(credit_change) OVER (PARTITION BY account_id ORDER BY transaction) AS credit,
        sum(owed_change) OVER (PARTITION BY account_id ORDER BY transaction) AS owed
    FROM moves
),
ends AS (
    SELECT
        moves.account_id,
        currency,
        coalesce(sum(CASE WHEN posted_at < time_from THEN balance_change END), 0) AS opening_balance,
        coalesce(sum(CASE WHEN posted_at < time_from THEN credit_change END), 0) AS opening_credit,
        coalesce(sum(CASE WHEN posted_at < time_from THEN owed_change END), 0) AS opening_owed,
        sum(balance_change) AS closing_balance,
        sum(credit_change) AS closing_credit,
        sum(owed_change) AS closing_owed
    FROM moves
    CROSS JOIN asked
    GROUP BY moves.account_id, currency
),
lines AS (
    SELECT
        account_id, currency, 0 AS part, 0 AS transaction, CAST(NULL AS BIGINT) AS posted_at, 'opening' AS kind,
        CAST(NULL AS VARCHAR) AS document, 0 AS balance_change, 0 AS credit_change, 0 AS owed_change,
        opening_balance AS balance, opening_credit AS credit, opening_owed AS owed
    FROM ends
    UNION ALL
    SELECT
        running.account_id, currency, 1, transaction, posted_at, kind, document,
        balance_change, credit_change, owed_change, balance, credit, owed
    FROM running
    CROSS JOIN asked
    WHERE posted_at >= time_from AND (balance_change <> 0 OR credit_change <> 0 OR owed_change <> 0)
    UNION ALL
    SELECT
        account_id, currency, 2, 0, NULL, 'closing', NULL,
        closing_balance - opening_balance, closing_credit - opening_credit, closing_owed - opening_owed,
        closing_balance, closing_credit, closing_owed
    FROM ends
)
SELECT
    account_id, currency, posted_at, kind, document,
    CAST(balance_change AS BIGINT) AS balance_change,
    CAST(credit_change AS BIGINT) AS credit_change,
    CAST(owed_change AS BIGINT) AS owed_change,
    CAST(balance AS BIGINT) AS balance,
    CAST(credit AS BIGINT) AS credit,
    CAST(owed AS BIGINT) AS owed
FROM lines
ORDER BY account_id, part, transaction
