"""Rating: sums of byte-microseconds become charges at a price, in exact integers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from metering.charges.prices import MonthPrices, PriceKey


class UsageSum(NamedTuple):
    """Usage of an account in a stretch of time within which no price changes."""

    month: str
    period_start: int
    period_end: int
    account_id: str
    sku: str
    region: str
    byte_micros: int


class ChargeKey(NamedTuple):
    """What one line is about; lines of two months with otherwise equal keys are two lines."""

    month: str
    account_id: str
    sku: str
    region: str
    price_per_gb_hour: Decimal


class Unbillable(NamedTuple):
    """Usage that cannot be billed, and why: `unknown_account` or `no_price`."""

    reason: str
    usage: UsageSum


@dataclass
class Rated:
    """Usage at its prices.

    `charges` holds byte-microseconds by key; `prices` says for each stretch what priced it; `gaps` are the keys
    of the current price list that priced usage of a closed month which its stored lists did not.
    """

    charges: dict[ChargeKey, int] = field(default_factory=lambda: defaultdict(int))
    prices: list[tuple[UsageSum, Decimal]] = field(default_factory=list)
    gaps: dict[str, set[PriceKey]] = field(default_factory=lambda: defaultdict(set))
    unbillable: list[Unbillable] = field(default_factory=list)


def rate_usage(sums: Iterable[UsageSum], currency_of: Mapping[str, str], prices: Mapping[str, MonthPrices]) -> Rated:
    """Rate usage: `currency_of` names the known accounts, `prices` what prices each month."""
    rated = Rated()
    for usage in sums:
        currency = currency_of.get(usage.account_id)
        if currency is None:
            rated.unbillable.append(Unbillable("unknown_account", usage))
            continue
        month = prices[usage.month]
        found = month.find(usage.account_id, usage.sku, usage.region, currency, usage.period_start)
        if found is None:
            rated.unbillable.append(Unbillable("no_price", usage))
            continue
        index, row = found
        key = ChargeKey(usage.month, usage.account_id, usage.sku, usage.region, row.price_per_gb_hour)
        rated.charges[key] += usage.byte_micros
        rated.prices.append((usage, row.price_per_gb_hour))
        if index and index == len(month.lists) - 1:
            rated.gaps[usage.month].add(PriceKey(*row[:4]))
    return rated
