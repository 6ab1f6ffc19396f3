-- One row: whether a line of this id is in quarantine.
SELECT count(*) > 0 AS is_quarantined
FROM quarantine
WHERE id = $id
