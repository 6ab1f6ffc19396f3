-- One row: what decides which issued lines count. The ledger only ever adds to it.
SELECT
    (SELECT coalesce(string_agg(month || ' ' || lines_hash, ' ' ORDER BY month), '') FROM closes) AS closes,
    (SELECT count(*) FROM corrections WHERE kind = 'void' AND rebill = 1) AS rebilled
