-- One row: how far the book has come.
SELECT
    (SELECT max(month) FROM closes) AS closed_month,
    (SELECT max(run) FROM runs) AS run,
    (SELECT count(*) FROM transactions) AS transactions
