-- The last closed month, '' where none is. Grain: one row.
SELECT coalesce(max(month), '') AS month
FROM closes
