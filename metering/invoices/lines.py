"""Lines: the usage of the month that is closed, adjustments of earlier ones, and the tax on both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from metering.charges.rating import ChargeKey
from metering.values import PERCENT_DENOMINATOR, parse_percent, rate, round_half_up, round_together

USAGE = "usage"
ADJUSTMENT = "adjustment"


class Issued(NamedTuple):
    """What all lines issued so far for a key add up to."""

    byte_micros: int
    amount_minor: int


@dataclass(slots=True)
class Line:
    """A line of an invoice that is being made; `month` is the month that its usage was in."""

    kind: str
    month: str
    account_id: str
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


def make_lines(
    closing: str,
    charges: Mapping[ChargeKey, int],
    issued: Mapping[ChargeKey, Issued],
    currency_of: Mapping[str, str],
    gigabyte_bytes: int,
) -> dict[str, list[Line]]:
    """The lines of each account, in the order of account ids and of SPEC's lines.

    `charges` are byte-microseconds by key as known now, of the closing month and of all earlier closed ones;
    `issued` is what was billed for the earlier ones. An earlier month gets the difference, where there is one.
    """
    found: dict[str, list[Line]] = defaultdict(list)
    for key, byte_micros, amount in _owed(closing, charges, issued, currency_of, gigabyte_bytes):
        month, account, sku, region, price = key
        if month == closing or amount:
            kind = USAGE if month == closing else ADJUSTMENT
            found[account].append(Line(kind, month, account, sku, region, price, byte_micros, amount))
    for lines in found.values():
        lines.sort(key=lambda line: (line.kind != USAGE, line.month, line.sku, line.region, line.price_per_gb_hour))
    return {account: found[account] for account in sorted(found)}


def subtotals(
    closing: str,
    charges: Mapping[ChargeKey, int],
    issued: Mapping[ChargeKey, Issued],
    currency_of: Mapping[str, str],
    gigabyte_bytes: int,
) -> dict[str, int]:
    """What the lines of each account that has any add up to, in minor units."""
    found: dict[str, int] = defaultdict(int)
    for key, _, amount in _owed(closing, charges, issued, currency_of, gigabyte_bytes):
        if key.month == closing or amount:
            found[key.account_id] += amount
    return found


def _owed(
    closing: str,
    charges: Mapping[ChargeKey, int],
    issued: Mapping[ChargeKey, Issued],
    currency_of: Mapping[str, str],
    gigabyte_bytes: int,
) -> Iterator[tuple[ChargeKey, int, int]]:
    """Usage and its amount for each key, of earlier months less what was billed."""
    for key, byte_micros in charges.items():
        amount = rate(byte_micros, key.price_per_gb_hour, currency_of[key.account_id], gigabyte_bytes)
        before = None if key.month == closing else issued.get(key)
        if before is None:
            yield key, byte_micros, amount
        else:
            yield key, byte_micros - before.byte_micros, amount - before.amount_minor
    for key, before in issued.items():
        if key not in charges:
            yield key, -before.byte_micros, -before.amount_minor


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
        exact = [line.amount_minor * parse_percent(percent) for line in members]
        tax = round_half_up(sum(exact), PERCENT_DENOMINATOR)
        for line, part in zip(members, round_together(exact, PERCENT_DENOMINATOR, tax), strict=True):
            line.tax_minor = part
        total += tax
    return total
