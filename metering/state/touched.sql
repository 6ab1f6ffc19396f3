-- One snapshot or VM that must be computed again: an arriving event is about it or deletes its VM, or its time has come.
-- A snapshot and a VM may have one id: then both are touched, because they move from their folders together.
SELECT subject_high FROM arriving
UNION
SELECT subject_high FROM open_events SEMI JOIN deleted_vms USING (vm_high)
UNION
SELECT subject_high FROM ended_of_vms
UNION
SELECT subject_high
FROM open_events
CROSS JOIN scope
WHERE due_at <= now_us
