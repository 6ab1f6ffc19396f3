"""Rating: sums of byte-microseconds become charges at a price, in exact integers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa

from metering.charges.prices import MonthPrices, PriceKey
from metering.columns import numbered, whole_rows_of


class Place(NamedTuple):
    """Where usage has one price: a stretch of time within which no price changes, a SKU and a region."""

    month: str
    period_start: int
    period_end: int
    sku: str
    region: str


class UsageSum(NamedTuple):
    """Usage of an account in a place."""

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


class Unbillable(NamedTuple):
    """Usage that cannot be billed, and why: `unknown_account` or `no_price`."""

    reason: str
    usage: UsageSum


class Usage:
    """Usage by account, in places that are numbered: what is said of a place is said once, not for each account."""

    def __init__(self, *parts: pa.Table, of: Sequence[str] = ("byte_micros",)) -> None:
        """`parts` are usage per account × place, and `of` the columns that count it."""
        whole = pa.concat_tables(part.select(["account_id", *Place._fields, *of]) for part in parts)
        # An account that came twice would get two invoices, so the order is not left to the engine.
        whole = whole.sort_by([(name, "ascending") for name in ("account_id", "period_start", "sku", "region")])
        places, numbers = numbered(whole, Place._fields)
        self.places = [Place(*values) for values in places]
        self._rows = whole.select(["account_id", *of]).add_column(1, "place", pa.array(numbers))

    def accounts(self) -> Iterator[tuple[str, Iterator[tuple[Any, ...]]]]:
        """Each account in order, with its usage: account, number of the place, and what was asked for."""
        return groupby(whole_rows_of(self._rows), key=itemgetter(0))


class Priced(NamedTuple):
    """What prices usage in a place: the key of its charge, or the reason why there is none."""

    place: Place
    key: ChargeKey | None
    reason: str
    gap: PriceKey | None
    """The key of the current price list, where it priced usage of a closed month which its stored lists did not."""


class Tariff(dict[int, Priced]):
    """What prices usage by the number of its place, looked up when it is first asked for."""

    def __init__(
        self, places: Sequence[Place], prices: Mapping[str, MonthPrices], account: str, currency: str | None
    ) -> None:
        self._places = places
        self._prices = prices
        self._account = account
        self._currency = currency

    def __missing__(self, number: int) -> Priced:
        self[number] = priced = self._find(self._places[number])
        return priced

    def _find(self, place: Place) -> Priced:
        month, start, _, sku, region = place
        if self._currency is None:
            return Priced(place, None, "unknown_account", None)
        prices = self._prices[month]
        found = prices.find(self._account, sku, region, self._currency, start)
        if found is None:
            return Priced(place, None, "no_price", None)
        index, row = found
        gap = PriceKey(*row[:4]) if index and index == len(prices.lists) - 1 else None
        return Priced(place, ChargeKey(month, sku, region, row.price_per_gb_hour), "", gap)


class Tariffs:
    """The tariff of each account; those of one currency without prices of their own share it."""

    def __init__(self, places: Sequence[Place], prices: Mapping[str, MonthPrices]) -> None:
        """`prices` are what prices each month."""
        self._places = places
        self._prices = prices
        self._own = set().union(*(month.own for month in prices.values()))
        self._shared: dict[str | None, Tariff] = {}

    def of(self, account: str, currency: str | None) -> Tariff:
        """The tariff of an account; it has no currency where there is no such account."""
        if account in self._own:
            return Tariff(self._places, self._prices, account, currency)
        tariff = self._shared.get(currency)
        if tariff is None:
            tariff = self._shared[currency] = Tariff(self._places, self._prices, "", currency)
        return tariff


def charges_of(used: Iterable[tuple[str, int, int]], tariff: Tariff) -> dict[ChargeKey, int]:
    """The byte-microseconds of an account's usage by what they are billed as."""
    charges: dict[ChargeKey, int] = {}
    for _, place, byte_micros in used:
        key = tariff[place].key
        if key is not None:
            charges[key] = charges.get(key, 0) + byte_micros
    return charges


def unbillable_of(used: Iterable[tuple[str, int, int]], tariff: Tariff) -> list[Unbillable]:
    """What of an account's usage cannot be billed."""
    return [
        Unbillable(priced.reason, UsageSum(*priced.place[:3], account, *priced.place[3:], byte_micros))
        for account, place, byte_micros in used
        for priced in [tariff[place]]
        if priced.key is None
    ]
