-- One event identity that the lake holds twice, or event of a batch that the manifest does not name.
SELECT source || ' ' || id || ' is in the lake ' || count(*) || ' times' AS detail
FROM events GROUP BY source, id HAVING count(*) > 1
UNION ALL
SELECT 'quarantine row ' || id || ' is in the lake ' || count(*) || ' times' FROM quarantine GROUP BY id HAVING count(*) > 1
UNION ALL
SELECT 'the resolution of ' || r.id || ' is of no quarantined line'
FROM quarantine_resolutions AS r ANTI JOIN quarantine AS q ON q.id = r.id
