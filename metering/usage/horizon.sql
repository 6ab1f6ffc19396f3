-- One row: from where on usage is asked for; without periods, all of it.
SELECT coalesce(min(period_start), -9223372036854775807) AS from_us
FROM periods
