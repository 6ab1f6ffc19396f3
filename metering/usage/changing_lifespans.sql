-- One lifespan, at least of each snapshot that has an event dated after now.
SELECT * FROM lifespans
