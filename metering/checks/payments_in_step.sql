-- One payment whose status, reason and times do not fit together, or not to its intent.
SELECT payment || ': there is no status ' || status AS detail
FROM payments WHERE status NOT IN ('unknown', 'succeeded', 'declined', 'action_required', 'no_card')
UNION ALL
SELECT payment || ': ' || status || ', but ' || CASE WHEN settled_at IS NULL THEN 'not settled' ELSE 'settled' END
FROM payments WHERE (status = 'unknown') <> (settled_at IS NULL)
UNION ALL
SELECT payment || ': settled before it was made' FROM payments WHERE settled_at < created_at
UNION ALL
SELECT payment || ': ' || status || ' with the reason ' || coalesce(reason, 'NULL')
FROM payments WHERE (status = 'declined' AND reason IS NULL) OR (status IN ('succeeded', 'no_card') AND reason IS NOT NULL)
UNION ALL
SELECT payment || ': ' || status || ', but not to be retried'
FROM payments WHERE retryable = 0 AND status <> 'declined'
UNION ALL
SELECT payment || ': ' || status || ' with an intent, or without one'
FROM payments WHERE (status = 'no_card') <> (intent IS NULL) OR (status = 'no_card' AND charge IS NOT NULL)
UNION ALL
SELECT p.payment || ': ' || p.status || ', but its intent is ' || n.state
FROM payments AS p
JOIN intents AS n ON n.intent = p.intent
WHERE p.status IN ('unknown', 'action_required') AND n.live = 0
UNION ALL
SELECT invoice || ': its attempts do not count from 1 without gaps'
FROM payments GROUP BY invoice HAVING count(*) <> max(attempt)
