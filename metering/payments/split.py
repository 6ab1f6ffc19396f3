"""Which part of what is due a card can pay."""

from __future__ import annotations

from typing import Protocol

from metering.config import Payments


class _Limits(Protocol):
    def minimum_minor(self, currency: str) -> int: ...
    def unit_minor(self, currency: str) -> int: ...
    def maximum_minor(self, currency: str) -> int: ...


def chargeable(due_minor: int, currency: str, payments: Payments, gateway: _Limits) -> tuple[int, int]:
    """What of an amount due is charged, and what is carried to the next invoice.

    Below the minimum all of it is carried; else the largest multiple of the gateway's unit is charged. What
    is above the gateway's maximum is neither: (0, 0), and the invoice stays open.
    """
    if due_minor <= 0:
        return 0, 0
    minimum = payments.minimum_minor(currency)
    if due_minor < (gateway.minimum_minor(currency) if minimum is None else minimum):
        return 0, due_minor
    carry = due_minor % gateway.unit_minor(currency)
    if due_minor - carry > gateway.maximum_minor(currency):
        return 0, 0
    return due_minor - carry, carry
