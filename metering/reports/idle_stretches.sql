-- One stretch of a snapshot that is alive and has been for longer than the days asked for.
-- Computed once.
SELECT
    s.subject_high,
    s.subject_low,
    s.snapshot_id,
    s.name,
    s.account_id,
    s.project_id,
    s.region,
    s.sku,
    s.size_bytes,
    s.ready_at,
    s.stretch_start,
    s.stretch_end,
    asked.now_us
FROM asked
JOIN stretches AS s
    ON asked.now_us - s.ready_at > asked.days * 86400000000
    AND s.stretch_start <= asked.now_us
    AND coalesce(s.ended_at > asked.now_us, TRUE)
    AND (asked.account_id IS NULL OR s.account_id = asked.account_id)
