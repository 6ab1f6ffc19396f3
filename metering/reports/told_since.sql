-- One row: the earliest instant that new events tell of, by themselves or by what they retract; empty without any.
SELECT min(time) AS since
FROM (
    SELECT time FROM new_events
    UNION ALL
    SELECT time
    FROM retractable_events
    SEMI JOIN (
        SELECT retracted_high AS event_high, retracted_low AS event_low
        FROM new_events
        WHERE type = 'event.retracted'
    ) AS retracted USING (event_high, event_low)
) AS told
