-- One run: who began it, where and by which clock, with which version and configuration, and what it changed.
WITH changes AS (
    SELECT run, 'accounts' AS thing, count(*) AS times FROM account_versions GROUP BY run
    UNION ALL SELECT run, 'accounts closed', count(*) FROM account_closures GROUP BY run
    UNION ALL SELECT run, 'month prices', count(*) FROM month_prices GROUP BY run
    UNION ALL SELECT run, 'months closed', count(*) FROM closes GROUP BY run
    UNION ALL SELECT c.run, 'invoices', count(*) FROM invoices AS i JOIN closes AS c ON c.month = i.month GROUP BY c.run
    UNION ALL SELECT run, 'corrections', count(*) FROM corrections GROUP BY run
    UNION ALL SELECT run, 'postings of ' || kind, count(*) FROM transactions GROUP BY run, kind
    UNION ALL SELECT run, 'lines put aside', count(*) FROM quarantine_resolutions GROUP BY run
    UNION ALL SELECT run, 'notices', count(*) FROM notices GROUP BY run
    UNION ALL SELECT found_by, 'runs found cut off', count(*) FROM killed_runs GROUP BY found_by
    UNION ALL SELECT run, 'batch', batch FROM runs WHERE batch IS NOT NULL
),
changed AS (
    SELECT run, string_agg(thing || ' ' || times, '; ' ORDER BY thing) AS what FROM changes GROUP BY run
)
SELECT
    r.run,
    r.command,
    o.started_by,
    o.machine,
    o.clock,
    r.started_at,
    r.ended_at,
    r.exit_code,
    r.version,
    r.config_hash,
    coalesce(c.what, 'nothing') AS changed,
    coalesce(r.summary, 'cut off; found by run ' || k.found_by) AS summary
FROM runs AS r
LEFT JOIN run_origins AS o ON o.run = r.run
LEFT JOIN changed AS c ON c.run = r.run
LEFT JOIN killed_runs AS k ON k.run = r.run
ORDER BY r.run
