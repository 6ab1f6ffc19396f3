-- One event, at least each that a quarantined repeat contradicts.
SELECT source, id, type FROM events
