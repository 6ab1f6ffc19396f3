"""The month close: usage → lines → invoices → credit → balance → card.

Owns the order of the steps and what is stored of a closed month. Does not own: how usage is metered, priced, or
charged. Always holds: closed months are gapless; everything up to the cards becomes visible by one commit of
the ledger; the close's files are made from the ledger, and made again if missing, before the first card is
charged. Killed anywhere and run again, it goes on where it was.
"""
