-- One refund at the sandbox that is not ours with its amount, or posted refund of ours that the sandbox did not make.
SELECT 'refund ' || r.correction || ' of ' || r.amount_minor || ' at the sandbox is no refund in the ledger' AS detail
FROM card_refunds AS r
ANTI JOIN corrections AS c
    ON c.correction = r.correction AND c.kind = 'refund' AND c.to_card = 1
    AND c.amount_minor = r.amount_minor AND c.currency = r.currency
UNION ALL
SELECT c.correction || ' was posted, but the sandbox did not make it'
FROM corrections AS c
JOIN payments AS p ON p.payment = c.payment AND p.gateway = 'sandbox'
ANTI JOIN card_refunds AS r ON r.correction = c.correction
WHERE c.kind = 'refund' AND c.to_card = 1 AND c.transaction IS NOT NULL
UNION ALL
SELECT correction || ' was made ' || count(*) || ' times at the sandbox'
FROM card_refunds GROUP BY correction HAVING count(*) > 1
