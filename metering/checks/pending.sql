-- One intent with a payment whose outcome is not known yet: the gateway may have captured it.
SELECT DISTINCT n.gateway_ref
FROM intents AS n
JOIN payments AS p ON p.intent = n.intent
WHERE p.status IN ('unknown', 'action_required') AND n.gateway_ref IS NOT NULL
