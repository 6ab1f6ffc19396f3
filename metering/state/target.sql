-- The folder that is being written, and the part of time in which what lies in it had ended.
SELECT
    CAST(? AS BIGINT) AS segment,
    CAST(? AS BIGINT) AS since,
    CAST(? AS BIGINT) AS until
