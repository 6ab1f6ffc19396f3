-- one row per batch that a file holds rows of, with their number
SELECT batch, count(*) AS rows FROM rows_of_file GROUP BY batch
