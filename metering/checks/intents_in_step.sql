-- One intent whose state, life, id and times do not fit together.
SELECT intent || ': it lives, but reads as ' || state AS detail
FROM intents WHERE (live = 1) <> (state IN ('creating', 'created', 'cancelling'))
UNION ALL
SELECT intent || ': there is no state ' || state
FROM intents WHERE state NOT IN ('creating', 'created', 'cancelling', 'succeeded', 'cancelled')
UNION ALL
SELECT intent || ': it lives and has ended, or neither' FROM intents WHERE (live = 1) <> (ended_at IS NULL)
UNION ALL
SELECT intent || ': it has ended before it was made' FROM intents WHERE ended_at < created_at
UNION ALL
SELECT intent || ': it is ' || state || ' with the gateway''s id ' || coalesce(gateway_ref, 'NULL')
FROM intents WHERE (state = 'creating' AND gateway_ref IS NOT NULL) OR (state IN ('created', 'succeeded') AND gateway_ref IS NULL)
UNION ALL
SELECT gateway_ref || ' is the id of ' || count(*) || ' intents'
FROM intents WHERE gateway_ref IS NOT NULL GROUP BY gateway, gateway_ref HAVING count(*) > 1
UNION ALL
SELECT n.intent || ': it succeeded when no payment of it did'
FROM intents AS n
ANTI JOIN payments AS p ON p.intent = n.intent AND p.status = 'succeeded' AND p.settled_at = n.ended_at
WHERE n.state = 'succeeded'
