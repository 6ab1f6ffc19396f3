-- One SKU in one region of snapshots that had not ended before the horizon.
SELECT DISTINCT sku, region
FROM lifespans
