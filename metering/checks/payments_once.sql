-- One invoice with two live intents, or intent with two successes, or success without its intent.
SELECT invoice || ' has ' || count(*) || ' live intents' AS detail
FROM intents WHERE live = 1 GROUP BY invoice HAVING count(*) > 1
UNION ALL
SELECT intent || ' succeeded ' || count(*) || ' times'
FROM payments WHERE status = 'succeeded' GROUP BY intent HAVING count(*) > 1
UNION ALL
SELECT p.payment || ' does not fit its intent'
FROM payments AS p
LEFT JOIN intents AS i ON i.intent = p.intent AND i.invoice = p.invoice AND i.gateway = p.gateway AND i.currency = p.currency
WHERE p.status <> 'no_card' AND (i.intent IS NULL OR (p.status = 'succeeded' AND (i.state <> 'succeeded' OR i.amount_minor <> p.amount_minor OR i.live = 1)))
UNION ALL
SELECT p.payment || ' is of no invoice of its account' FROM payments AS p
ANTI JOIN invoices AS i ON i.invoice = p.invoice AND i.account_id = p.account_id AND i.currency = p.currency
UNION ALL
SELECT n.intent || ' reads as succeeded, but no payment did'
FROM intents AS n ANTI JOIN payments AS p ON p.intent = n.intent AND p.status = 'succeeded'
WHERE n.state = 'succeeded'
