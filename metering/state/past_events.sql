-- One event that was known before: of a batch that is looked through, or a VM's deletion that an earlier part brought.
FROM batches_events
UNION ALL BY NAME
FROM taken_deletions
