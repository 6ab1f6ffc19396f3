-- One touched snapshot or VM that could still change, with the folder that has its events.
SELECT segment, subject_high
FROM open_events
SEMI JOIN touched USING (subject_high)
UNION
SELECT segment, subject_high
FROM open_events
SEMI JOIN deleted_vms USING (vm_high)
