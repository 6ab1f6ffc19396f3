-- How many lines of the run go to quarantine for each reason. Grain: reason.
SELECT reason, count(*) AS lines
FROM new_bad_lines
GROUP BY reason
ORDER BY reason
