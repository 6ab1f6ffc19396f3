"""Charges: what usage costs.

Owns price lists, which price is in force for whom and when, and rating: byte-microseconds × price, rounded once.
Does not own: usage (it comes as sums) and documents. Always holds: exact integers up to the one rounding; a
closed month keeps the prices that it was billed at.
"""
