-- One correction that is not in the book as it is registered, or posting of a correction that is not registered.
WITH registered AS (
    SELECT *, CASE kind WHEN 'dispute' THEN 'dispute_' || outcome ELSE kind END AS posted_as FROM corrections
),
posted AS (
    SELECT e.reference AS correction, t.transaction, t.kind, max(e.account_id) AS account_id, max(e.currency) AS currency
    FROM transactions AS t
    JOIN entries AS e ON e.transaction = t.transaction
    WHERE t.kind IN ('credit_note', 'void', 'write_off', 'refund', 'payout', 'dispute_opened', 'dispute_won', 'dispute_lost')
    GROUP BY ALL
)
SELECT c.correction || ' is not in the book as it is registered' AS detail
FROM registered AS c
ANTI JOIN posted AS p
    ON p.correction = c.correction AND p.transaction = c.transaction AND p.kind = c.posted_as
    AND p.account_id = c.account_id AND p.currency = c.currency
WHERE c.transaction IS NOT NULL
UNION ALL
SELECT 'transaction ' || p.transaction || ' (' || p.kind || ') is of no registered correction'
FROM posted AS p
ANTI JOIN registered AS c ON c.correction = p.correction AND c.transaction = p.transaction AND c.posted_as = p.kind
UNION ALL
SELECT c.correction || ' has no transaction'
FROM registered AS c
WHERE c.transaction IS NULL AND c.amount_minor <> 0
    -- A refund to a card is posted once the gateway has made it, and never where it was refused or failed there.
    AND NOT (c.kind IN ('refund', 'refund_refused') AND c.to_card = 1)
