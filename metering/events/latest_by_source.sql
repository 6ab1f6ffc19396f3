-- one row per source: when its latest event happened
SELECT source, max(time) AS latest FROM events GROUP BY source
