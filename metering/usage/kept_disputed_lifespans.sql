-- One lifespan about which, or about whose VM, a repeat was refused.
SELECT snapshot_id, resource_id, sku, account_id
FROM stored_of_all_time
ANTI JOIN superseded USING (segment, subject_high)
SEMI JOIN disputed ON snapshot_id = subject
UNION
SELECT snapshot_id, resource_id, sku, account_id
FROM stored_of_all_time
ANTI JOIN superseded USING (segment, subject_high)
SEMI JOIN disputed ON resource_id = subject
