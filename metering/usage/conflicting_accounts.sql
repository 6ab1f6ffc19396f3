-- One account that conflicts concern: it pays for the snapshot, or the refused line names it; NULL where nobody does.
SELECT account_id, count(DISTINCT id) AS lines
FROM (
    SELECT id, coalesce(payer, named) AS account_id FROM refused_repeats
    UNION ALL
    SELECT id, named AS account_id FROM refused_repeats WHERE named > ''
) AS concerned
GROUP BY account_id
