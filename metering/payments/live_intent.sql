-- one row: the live intent of an invoice
SELECT intent, invoice, gateway, gateway_ref, customer, currency, amount_minor, state
FROM intents
WHERE invoice = :invoice AND live = 1
