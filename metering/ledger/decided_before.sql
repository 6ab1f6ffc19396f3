-- One close of a ledger of version 4: how far it counted what people had decided.
SELECT
    closes.month AS month,
    coalesce(
        (SELECT max(corrections.recorded) FROM corrections WHERE corrections.run < closes.run), 0
    ) AS corrections_through,
    own.recorded - 1 AS prices_through
FROM closes
JOIN month_prices AS own ON own.close_month = closes.month AND own.kind = 'close'
ORDER BY closes.month
