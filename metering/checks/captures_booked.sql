-- One capture of the sandbox that is not a payment of ours, or payment of ours that the sandbox did not capture.
SELECT 'capture of ' || coalesce(CAST(c.amount_minor AS VARCHAR), '') || ' for ' || coalesce(c.invoice, '') || ' (' || coalesce(c.intent, '') || ') is no payment in the ledger' AS detail
FROM captures AS c
ANTI JOIN booked AS b
    ON b.gateway_ref = c.intent AND b.invoice = c.invoice AND b.customer = c.customer
    AND b.amount_minor = c.amount_minor AND b.currency = c.currency
WHERE c.intent NOT IN (SELECT gateway_ref FROM pending)
UNION ALL
SELECT b.payment || ' of ' || b.amount_minor || ' for ' || b.invoice || ' was not captured by the sandbox'
FROM booked AS b
ANTI JOIN captures AS c
    ON c.intent = b.gateway_ref AND c.invoice = b.invoice AND c.customer = b.customer
    AND c.amount_minor = b.amount_minor AND c.currency = b.currency
UNION ALL
SELECT intent || ' was captured ' || count(*) || ' times' FROM captures GROUP BY intent HAVING count(*) > 1
