"""Lines: the usage of the month that is closed, adjustments of earlier ones, and the tax on both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from metering.charges.rating import ChargeKey
from metering.errors import MeteringError
from metering.values import PERCENT_DENOMINATOR, format_money, parse_percent, rate, round_half_up, round_together

USAGE = "usage"
ADJUSTMENT = "adjustment"


MOST_MINOR = 10**15
"""No account owes more minor units at once: the book adds up many of them in 64 bits."""


class Issued(NamedTuple):
    """What all lines issued so far for a key add up to."""

    byte_micros: int
    amount_minor: int


_NOTHING = Issued(0, 0)


@dataclass(slots=True)
class Line:
    """A line of an invoice that is being made; `month` is the month that its usage was in."""

    kind: str
    month: str
    sku: str
    region: str
    price_per_gb_hour: Decimal
    byte_micros: int
    amount_minor: int
    tax_rate: str = "0"
    tax_minor: int = 0

    @property
    def gross_minor(self) -> int:
        """Amount and tax."""
        return self.amount_minor + self.tax_minor


class Owed(NamedTuple):
    """What an account owes by key, with the usage: for the month that is closed, and as changes of earlier ones."""

    usage: list[tuple[ChargeKey, int, int]]
    adjustments: list[tuple[ChargeKey, int, int]]
    subtotal_minor: int


def owed(
    closing: str,
    charges: Mapping[ChargeKey, int],
    issued: Mapping[ChargeKey, Issued],
    currency: str,
    gigabyte_bytes: int,
) -> Owed | None:
    """What an account owes when a month is closed; None if there is nothing to bill, not even usage that costs nothing.

    `charges` are byte-microseconds by key as known now, of the closing month and of earlier closed ones; `issued` is
    what was billed for the earlier ones. An earlier month gets the difference, where there is one. Raises
    MeteringError where that is more than MOST_MINOR.
    """
    usage, adjustments, subtotal = [], [], 0
    for key, byte_micros in charges.items():
        month, _, _, price = key
        amount = rate(byte_micros, price, currency, gigabyte_bytes)
        if month == closing:
            usage.append((key, byte_micros, amount))
        elif amount != (before := issued.get(key, _NOTHING)).amount_minor:
            amount -= before.amount_minor
            adjustments.append((key, byte_micros - before.byte_micros, amount))
        else:
            continue
        subtotal += amount
    for key, before in issued.items():
        if key not in charges and before.amount_minor:
            adjustments.append((key, -before.byte_micros, -before.amount_minor))
            subtotal -= before.amount_minor
    if abs(subtotal) > MOST_MINOR:
        (month, sku, region, _), _, amount = max(usage + adjustments, key=lambda one: abs(one[2]))
        cost = f"{format_money(amount, currency)} {currency}"
        raise MeteringError(
            f"{sku} in {region} would cost an account {cost} for {month}: no amount may be that large.",
            unchanged=f"Nothing of {closing} was written.",
            remedy=f"See what is so large in `metering usage --by snapshot --month {month}`, or so dear in prices.csv.",
        )
    return Owed(usage, adjustments, subtotal) if usage or adjustments else None


def make_lines(owed: Owed) -> list[Line]:
    """The lines of an account, in the order of SPEC's lines."""
    return [
        Line(kind, *key, byte_micros, amount)
        for kind, keys in ((USAGE, owed.usage), (ADJUSTMENT, owed.adjustments))
        for key, byte_micros, amount in sorted(keys)
    ]


def tax_on(amount_minor: int, percent: str) -> int:
    """The tax on a sum, rounded half up."""
    return round_half_up(amount_minor * parse_percent(percent), PERCENT_DENOMINATOR)


def add_tax(lines: list[Line], rate_of: Callable[[Line], str]) -> int:
    """Tax the lines of one invoice and return the tax: one rounded sum for usage, one per rate for adjustments.

    Each line bears its share of the sum that it is in, by largest remainder of the exact tax.
    """
    groups: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in lines:
        line.tax_rate = rate_of(line)
        groups[line.kind, line.tax_rate].append(line)
    total = 0
    for (_, percent), members in groups.items():
        tax = tax_on(sum([line.amount_minor for line in members]), percent)
        millionths = parse_percent(percent)
        exact = [line.amount_minor * millionths for line in members]
        for line, part in zip(members, round_together(exact, PERCENT_DENOMINATOR, tax), strict=True):
            line.tax_minor = part
        total += tax
    return total
