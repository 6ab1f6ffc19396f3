-- One touched snapshot or VM that could still change, with the folder that has its events.
SELECT DISTINCT segment, subject_high
FROM open_events
SEMI JOIN touched USING (subject_high)
