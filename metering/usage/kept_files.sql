-- One file of kept rows of a relation (part); ended_until is when all its snapshots had ended, where all have.
SELECT
    CAST(unnest(?) AS VARCHAR) AS part,
    CAST(unnest(?) AS VARCHAR) AS path,
    CAST(unnest(?) AS BIGINT) AS rows,
    CAST(unnest(?) AS BIGINT) AS ended_until
