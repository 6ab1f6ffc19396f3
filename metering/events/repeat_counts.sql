-- one row: how many lines of this run only repeat an event
SELECT count(*) FILTER (WHERE differs = '') AS duplicates FROM repeats
