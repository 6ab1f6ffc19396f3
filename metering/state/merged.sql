-- One row of a segment that is made of others, as far as it is not superseded there.
SELECT target.segment, merging.* EXCLUDE (segment)
FROM merging
ANTI JOIN superseded USING (segment, owner)
CROSS JOIN target
ORDER BY owner
