-- One run of a command that may write.
SELECT
    r.run,
    r.command,
    r.started_at,
    r.ended_at,
    r.exit_code,
    r.batch,
    coalesce(r.summary, 'cut off; found by run ' || k.found_by) AS summary
FROM runs AS r
LEFT JOIN killed_runs AS k ON k.run = r.run
ORDER BY r.run
