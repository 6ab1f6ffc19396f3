"""Settlement: how an invoice is paid from credit and balance, and how a negative one returns the way it was paid.

Pure functions over amounts in minor units of one currency; the close posts what they decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Credit(NamedTuple):
    """What is left of a credit; `expires` is its last day (ISO 8601), None if it never lapses."""

    reference: str
    expires: str | None
    remaining_minor: int

    def can_pay(self, day: str) -> bool:
        """Whether it can pay invoices of the month before `day`, the first day after that month."""
        return self.expires is None or self.expires >= day


class Use(NamedTuple):
    """Money of one source that pays an invoice: a credit, or the balance where there is no reference."""

    reference: str | None
    amount_minor: int


def pay(payable_minor: int, credits: Iterable[Credit], balance_minor: int, day: str) -> list[Use]:
    """What credit (earliest expiry first), then balance pay of a positive payable."""
    uses = []
    open_minor = payable_minor
    usable = [credit for credit in credits if credit.can_pay(day)]
    for credit in sorted(usable, key=lambda credit: (credit.expires is None, credit.expires or "")):
        taken = min(open_minor, credit.remaining_minor)
        if taken > 0:
            uses.append(Use(credit.reference, taken))
            open_minor -= taken
    taken = min(open_minor, balance_minor)
    if taken > 0:
        uses.append(Use(None, taken))
    return uses


def withhold(correction_minor: int, limit_minor: int | None, withheld_minor: int) -> int:
    """How much of a month's correction is withheld, because void, credit note or write-off gave it back before.

    `correction_minor` is the gross correction (negative gives back), `limit_minor` what can be given back of the
    month (None: all), `withheld_minor` what earlier closes withheld of it. A correction the other way first takes
    back what was withheld, which is a negative result.
    """
    if correction_minor < 0:
        return 0 if limit_minor is None else max(-correction_minor - max(limit_minor, 0), 0)
    return -min(correction_minor, withheld_minor)


class Source(NamedTuple):
    """A part of an invoice and what paid it: `credit` (by reference), `balance`, `card`, or nothing yet (`due`)."""

    invoice: str | None
    source: str
    reference: str | None
    amount_minor: int


def give_back(amount_minor: int, sources: Iterable[Source]) -> list[Source]:
    """Give an amount back in the reverse order of payment; what no source covers goes to the balance."""
    steps = []
    left = amount_minor
    for source in reversed(list(sources)):
        taken = min(left, source.amount_minor)
        if taken > 0:
            steps.append(source._replace(amount_minor=taken))
            left -= taken
    if left:
        steps.append(Source(None, "balance", None, left))
    return steps


def spread(amount_minor: int, corrections: Mapping[str, int]) -> list[tuple[str, int]]:
    """Share a negative payable over the corrected months, latest first, each up to its own correction.

    `corrections` are the net gross corrections by month, negative where the month gives back.
    """
    shares = []
    left = amount_minor
    for month in sorted(corrections, reverse=True):
        taken = min(left, -corrections[month])
        if taken > 0:
            shares.append((month, taken))
            left -= taken
    return shares


def set_aside(amount_minor: int, owed: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Share balance that came back over open invoices, the first ones first, each up to what is owed on it."""
    shares = []
    left = amount_minor
    for invoice, due in owed:
        taken = min(left, due)
        if taken > 0:
            shares.append((invoice, taken))
            left -= taken
    return shares
