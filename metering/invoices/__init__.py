"""Invoices: what is owed.

Owns lines, adjustments, tax, the order in which an invoice is settled, how a negative one returns, and how a
line is shared out over snapshots. Does not own: usage, prices, postings. Always holds: lines add up to the
subtotal, allocations to their line, and what has been billed for a month equals what its usage costs.
"""
