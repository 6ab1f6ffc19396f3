-- One lifespan about which, or about whose VM, a repeat was refused.
SELECT snapshot_id, resource_id, sku, account_id
FROM stored_of_all_time
ANTI JOIN superseded USING (segment, subject_high)
WHERE snapshot_id IN (SELECT subject FROM disputed) OR resource_id IN (SELECT subject FROM disputed)
