-- One event that is known and that a retraction names: it is gone, and will not come again.
SELECT source, id
FROM events
SEMI JOIN (SELECT retracted_source AS source, retracted_id AS id FROM events WHERE type = 'event.retracted') AS named
    USING (source, id)
UNION
SELECT source, id FROM targets
