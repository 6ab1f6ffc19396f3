-- One retraction among the new events.
SELECT * FROM new_events WHERE type = 'event.retracted'
