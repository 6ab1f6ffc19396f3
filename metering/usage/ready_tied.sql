-- One snapshot whose earliest ready events at one instant came in several batches, or in one of the first layout: only
-- the texts of source and id tell which is first. There are next to none.
SELECT subject_high, subject_low, ready_at AS tied_at
FROM (
    SELECT
        subject_high,
        subject_low,
        ready_at,
        batch,
        place,
        min(ready_at) OVER (PARTITION BY subject_high, subject_low) AS first_ready_at
    FROM ready_events
    SEMI JOIN ready_again USING (subject_high, subject_low)
) AS placed
WHERE ready_at = first_ready_at
GROUP BY subject_high, subject_low, ready_at
HAVING count(*) > 1 AND (min(batch) < max(batch) OR count(place) < count(*))
