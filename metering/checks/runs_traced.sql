-- One run whose origin is not known although those of earlier ones are, or that was found cut off and was not.
SELECT 'nobody is known to have begun run ' || r.run AS detail
FROM runs AS r
ANTI JOIN run_origins AS o ON o.run = r.run
WHERE r.run > (SELECT min(run) FROM run_origins)
UNION ALL
SELECT 'run ' || o.run || ', which ' || o.started_by || ' began, is not there'
FROM run_origins AS o
ANTI JOIN runs AS r ON r.run = o.run
UNION ALL
SELECT 'run ' || o.run || ' went by a clock that is neither real nor set'
FROM run_origins AS o WHERE o.clock NOT IN ('real', 'set')
UNION ALL
SELECT 'run ' || k.run || ' was found cut off by run ' || k.found_by || ', but it ended, or is not there, or came later'
FROM killed_runs AS k
ANTI JOIN runs AS r ON r.run = k.run AND r.ended_at IS NULL AND k.found_by > k.run
