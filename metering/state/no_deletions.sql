-- No deletion: what earlier parts brought where there were none.
SELECT *
FROM new_events
WHERE FALSE
