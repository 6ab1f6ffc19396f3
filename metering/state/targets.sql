-- One event that a new event retracts.
SELECT searched.*
FROM (SELECT * FROM new_events UNION ALL SELECT * FROM past_events) AS searched
SEMI JOIN retracted_identities USING (event_high, event_low)
