-- One row of a folder that is made of others, as far as it is not superseded there.
SELECT target.segment, merging.* EXCLUDE (segment)
FROM merging
ANTI JOIN superseded USING (segment, subject_high)
CROSS JOIN target
