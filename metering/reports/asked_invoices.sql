-- One invoice that is asked for; the ledger's own engine answers, whichever it is.
SELECT invoice FROM invoices WHERE month BETWEEN '{first}' AND '{last}' AND account_id = {account}
