-- One quarantined repeat that contradicts the event it repeats and that nobody has put aside, with who pays for the
-- snapshot and whom the line names; where that event is a VM's deletion, one row per vm snapshot of the VM.
SELECT
    refused.id,
    coalesce(refused.snapshot_id, of_vm.snapshot_id) AS snapshot_id,
    coalesce(own.account_id, of_vm.account_id) AS payer,
    refused.account_id AS named,
    refused.ingested_at,
    refused.message
FROM (
    SELECT
        CASE WHEN coalesce(events.type LIKE 'snapshot.%', TRUE) THEN conflicts.subject END AS snapshot_id,
        CASE WHEN events.type = 'vm.deleted' THEN conflicts.subject END AS vm_id,
        conflicts.id,
        conflicts.account_id,
        conflicts.ingested_at,
        conflicts.message
    FROM (
        SELECT id, source, event_id, subject, account_id, ingested_at, message
        FROM quarantine
        ANTI JOIN resolved_lines USING (id)
        WHERE reason = 'conflict'
    ) AS conflicts
    LEFT JOIN disputed_events AS events ON events.source = conflicts.source AND events.id = conflicts.event_id
) AS refused
LEFT JOIN disputed_lifespans AS own ON own.snapshot_id = refused.snapshot_id
LEFT JOIN disputed_lifespans AS of_vm ON of_vm.resource_id = refused.vm_id AND of_vm.sku = 'snapshot.vm'
