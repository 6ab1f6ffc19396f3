"""Corrections: what people change after issue, each a document or a posting of its own.

Owns credit notes, voids, write-offs, refunds, disputes and payouts: what is allowed, and what each moves. Does
not own: adjustments, which the close makes by itself from the events. Always holds: an issued invoice never
changes; an invoice becomes void or uncollectible only once no payment intent of it lives.
"""
