-- One event that counted at the earlier batch, of an affected snapshot, also where it was retracted since.
SELECT events_after.*
FROM events_after
CROSS JOIN compared
WHERE batch <= earlier
UNION ALL
SELECT targets.*
FROM targets
ANTI JOIN retracted_before USING (source, id)
CROSS JOIN compared
WHERE batch <= earlier
