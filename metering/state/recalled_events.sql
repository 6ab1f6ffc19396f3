-- One event of a touched snapshot or VM that had ended, from the batches that brought its events; not from later ones.
SELECT past_events.*
FROM past_events
SEMI JOIN recalled USING (subject_high)
ANTI JOIN held_events USING (event_high, event_low)
WHERE type <> 'event.retracted'
