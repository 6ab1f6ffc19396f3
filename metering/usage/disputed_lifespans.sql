-- One lifespan, at least of each snapshot that a quarantined repeat is about.
SELECT snapshot_id, resource_id, sku, account_id FROM lifespans
