-- One stretch of a chosen snapshot in one period.
SELECT
    month,
    period_start,
    period_end,
    account_id,
    project_id,
    region,
    sku,
    snapshot_id,
    subject_high,
    subject_low,
    used_from,
    used_until,
    size_bytes,
    byte_micros,
    snapshots,
    ready_at,
    ended_at
FROM stretch_usage
SEMI JOIN chosen_snapshots USING (snapshot_id)
