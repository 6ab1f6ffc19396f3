-- One event that was called back from the archive; retractions are never there.
SELECT *, CAST(NULL AS VARCHAR) AS retracted_source, CAST(NULL AS VARCHAR) AS retracted_id
FROM recalled
