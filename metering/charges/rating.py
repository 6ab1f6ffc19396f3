"""Rating: sums of byte-microseconds become charges at a price, in exact integers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from metering.charges.prices import MonthPrices, PriceKey, PriceRow


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
    """What one line of an account is about, in the order of its lines; two months with otherwise equal keys are two."""

    month: str
    sku: str
    region: str
    price_per_gb_hour: Decimal


charge_key = lru_cache(ChargeKey)
"""A key that all accounts share."""


class Unbillable(NamedTuple):
    """Usage that cannot be billed, and why: `unknown_account` or `no_price`."""

    reason: str
    usage: UsageSum


@dataclass(slots=True)
class Rated:
    """Usage of one account at its prices.

    `charges` holds byte-microseconds by key; `prices` says for each stretch what priced it; `gaps` are the keys
    of the current price list that priced usage of a closed month which its stored lists did not.
    """

    charges: dict[ChargeKey, int] = field(default_factory=dict)
    prices: list[tuple[UsageSum, Decimal]] = field(default_factory=list)
    gaps: dict[str, set[PriceKey]] = field(default_factory=lambda: defaultdict(set))
    unbillable: list[Unbillable] = field(default_factory=list)


def price_of(
    month: str,
    period_start: int,
    account_id: str,
    sku: str,
    region: str,
    currency: str | None,
    prices: Mapping[str, MonthPrices],
) -> tuple[int, PriceRow] | str:
    """The price of usage in a period without price changes, and which list gave it; or why it cannot be billed.

    `currency` is that of the account; None where there is no such account.
    """
    if currency is None:
        return "unknown_account"
    return prices[month].find(account_id, sku, region, currency, period_start) or "no_price"


def rate_usage(used: Iterable[UsageSum], currency: str | None, prices: Mapping[str, MonthPrices]) -> Rated:
    """Rate the usage of one account, in its currency; `prices` are what prices each month."""
    rated = Rated()
    charges = rated.charges
    for usage in used:
        month, start, _, account, sku, region, byte_micros = usage
        found = price_of(month, start, account, sku, region, currency, prices)
        if isinstance(found, str):
            rated.unbillable.append(Unbillable(found, usage))
            continue
        index, row = found
        price = row.price_per_gb_hour
        key = charge_key(month, sku, region, price)
        charges[key] = charges.get(key, 0) + byte_micros
        rated.prices.append((usage, price))
        if index and index == len(prices[month].lists) - 1:
            rated.gaps[month].add(PriceKey(*row[:4]))
    return rated
