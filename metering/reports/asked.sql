-- One row: the filter of the report, and now.
CREATE OR REPLACE TEMP TABLE asked AS
SELECT
    $month_from AS month_from,
    $month_to AS month_to,
    CAST($time_from AS BIGINT) AS time_from,
    CAST($time_to AS BIGINT) AS time_to,
    CAST($is_all AS BOOLEAN) AS is_all,
    CAST($account_id AS VARCHAR) AS account_id,
    CAST($snapshot_id AS VARCHAR) AS snapshot_id,
    CAST($now_us AS BIGINT) AS now_us,
    CAST($days AS BIGINT) AS days
