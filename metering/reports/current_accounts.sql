-- One account: the version in force.
SELECT v.*
FROM account_versions AS v
JOIN (SELECT account_id, max(version) AS version FROM account_versions GROUP BY account_id) AS newest
    ON newest.account_id = v.account_id AND newest.version = v.version
