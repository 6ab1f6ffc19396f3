-- One subject about which a repeat was refused.
SELECT DISTINCT subject
FROM quarantine
WHERE reason = 'conflict'
