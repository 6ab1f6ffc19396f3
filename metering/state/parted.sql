-- One row of a folder that is divided, with the folder in which it will be, as far as it is not superseded.
SELECT chosen.segment, merging.* EXCLUDE (segment)
FROM merging
ANTI JOIN superseded USING (segment, subject_high)
JOIN chosen USING (subject_high)
