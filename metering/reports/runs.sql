-- One run of a command that may write.
SELECT run, command, started_at, ended_at, exit_code, batch, summary
FROM runs
ORDER BY run
