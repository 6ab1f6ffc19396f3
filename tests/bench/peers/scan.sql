-- One row: the largest value of each column that metering reads, so that all of them are read and decoded.
SELECT
    max(type),
    max(time),
    max(batch),
    max(place),
    max(subject_high),
    max(subject_low),
    max(event_high),
    max(event_low),
    max(retracted_high),
    max(retracted_low),
    max(vm_high),
    max(vm_low),
    max(account_id),
    max(region),
    max(resource_type),
    max(size_bytes)
FROM read_parquet($files)
