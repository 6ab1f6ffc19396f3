-- One issued line that counts: not of an invoice that was voided to be billed again.
SELECT l.*
FROM invoice_lines AS l
WHERE l.invoice NOT IN (SELECT invoice FROM corrections WHERE kind = 'void' AND rebill = 1)
