-- One event of what can still change, with the folder that has it and the instant at which it will have ended.
SELECT *
FROM stored_events
ANTI JOIN superseded USING (segment, subject_high)
