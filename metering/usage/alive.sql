-- One snapshot that is alive now, with its present size.
SELECT subject_high, subject_low, snapshot_id, name, account_id, project_id, region, sku, size_bytes, ready_at
FROM stretches
CROSS JOIN scope
WHERE stretch_start <= now_us AND coalesce(stretch_end > now_us, TRUE)
