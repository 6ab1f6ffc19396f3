-- One event that a later night still needs: of a snapshot that can still change, the deletion of a VM of such, and a
-- retraction of an event that has not been seen or that is dated after now.
SELECT lifecycle.*, CAST(NULL AS VARCHAR) AS retracted_source, CAST(NULL AS VARCHAR) AS retracted_id
FROM lifecycle
ANTI JOIN settled USING (subject_high, subject_low)
WHERE type LIKE 'snapshot.%'
UNION ALL
SELECT lifecycle.*, CAST(NULL AS VARCHAR) AS retracted_source, CAST(NULL AS VARCHAR) AS retracted_id
FROM lifecycle
ANTI JOIN settled_vms ON settled_vms.resource_id = lifecycle.subject
WHERE type = 'vm.deleted'
UNION ALL
SELECT later.*
FROM (
    SELECT retractions_held.*
    FROM retractions_held
    CROSS JOIN scope
    WHERE time > now_us
    UNION ALL
    SELECT pending.*
    FROM (SELECT retractions_held.* FROM retractions_held CROSS JOIN scope WHERE time <= now_us) AS pending
    ANTI JOIN seen ON seen.source = pending.retracted_source AND seen.id = pending.retracted_id
) AS later
