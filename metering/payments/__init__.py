"""The payments: how an invoice's remainder is charged to a saved card.

Owns the talk with the gateway: one live intent per invoice, every attempt to confirm it, and the postings of
what came of it. Does not own what is owed (the close, the corrections) nor the book. Always holds: money can
move only through an intent whose id is in the ledger, and an attempt leaves `unknown` only on evidence.
"""
