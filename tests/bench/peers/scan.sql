-- One row: the largest value of each column that metering needs, so that all of them are read and decoded.
SELECT
    max(type),
    max(time),
    max(subject_high),
    max(subject_low),
    max(account_id),
    max(region),
    max(resource_type),
    max(resource_id),
    max(size_bytes)
FROM read_parquet($files)
