-- One event that was known at the earlier batch, by which what is touched is computed, or a retraction; also an event
-- that was retracted since.
SELECT known.*
FROM (
    FROM events_to_compute
    UNION ALL BY NAME
    FROM targets
    ANTI JOIN gathered USING (event_high, event_low)
) AS known
CROSS JOIN compared
WHERE batch <= earlier
