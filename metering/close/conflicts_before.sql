-- The conflicts that came in up to a batch.
SELECT id FROM quarantine WHERE reason = 'conflict' AND batch <= $batch
