-- One row of the file before, of a month that nothing since has changed, with the snapshot's end as it is known now.
SELECT carried.* REPLACE (
    CASE
        WHEN carried.ended_at < make_timestamp({since}) THEN carried.ended_at
        WHEN lifespans.ended_at <= {now} THEN make_timestamp(lifespans.ended_at)
    END AS ended_at
)
FROM before.{table} AS carried
LEFT JOIN lifespans ON lifespans.snapshot_id = carried.snapshot_id
WHERE carried.month < '{first}'
