-- One event that is known: retracted or not, it will not come again.
SELECT source, id FROM events
UNION ALL
SELECT source, id FROM targets
