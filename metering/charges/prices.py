"""Price lists: `prices.csv`, the lists stored with the closes, and the price in force at an instant."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, tzinfo
from decimal import Decimal
from typing import NamedTuple

import msgspec

from metering.tabular import read_csv
from metering.values import first_instant, format_price, minor_digits, parse_day, parse_price

SKUS = {"snapshot.vm": "VM snapshot", "snapshot.volume": "Volume snapshot"}
"""What is priced, and what one of it is called where people read; several have an s."""
COLUMNS = ("sku", "region", "currency", "price_per_gb_hour", "effective_from")
EXTRAS = ("account_id",)


class PriceRow(NamedTuple):
    """One row of a price list; an empty region or account means every one."""

    sku: str
    region: str
    currency: str
    account_id: str
    effective_from: str
    price_per_gb_hour: Decimal


class PriceKey(NamedTuple):
    """What a price is for."""

    sku: str
    region: str
    currency: str
    account_id: str


def read_prices(path: str) -> PriceList:
    """The price list in a CSV file; UsageError with the line for anything that is not a price."""
    seen: dict[tuple[PriceKey, str], int] = {}
    rows = []
    for line in read_csv(path, COLUMNS, EXTRAS):
        values = line.values
        if values["sku"] not in SKUS:
            line.wrong(f"sku {values['sku']!r} is none of {', '.join(SKUS)}")
        line.read("currency", minor_digits)
        price = line.read("price_per_gb_hour", parse_price)
        day = line.read("effective_from", parse_day)
        row = PriceRow(values["sku"], values["region"], values["currency"], values["account_id"], day, price)
        place = (PriceKey(*row[:4]), day)
        if place in seen:
            line.wrong(f"the same key and day stand already on line {seen[place]}")
        seen[place] = line.line
        rows.append(row)
    return PriceList(rows)


class PriceList:
    """An immutable set of price rows, named by their hash."""

    def __init__(self, rows: Iterable[PriceRow]) -> None:
        self.rows = sorted(rows)
        canonical = [[*row[:5], format_price(row.price_per_gb_hour)] for row in self.rows]
        self.hash = hashlib.sha256(msgspec.json.encode(canonical)).hexdigest()
        self._by_key: dict[PriceKey, list[PriceRow]] = defaultdict(list)
        for row in self.rows:
            self._by_key[PriceKey(*row[:4])].append(row)

    def keys_in_force(self, account: str, sku: str, region: str, currency: str) -> Iterator[PriceKey]:
        """The keys that can price this usage, the one that wins first."""
        for owner in (account, "") if account else ("",):
            for place in (region, "") if region else ("",):
                key = PriceKey(sku, place, currency, owner)
                if key in self._by_key:
                    yield key

    def in_force(self, key: PriceKey, instant: int, zone: tzinfo) -> PriceRow | None:
        """The row of a key that is in force at an instant."""
        rows = self._by_key[key]
        index = bisect_right(rows, instant, key=lambda row: effective_instant(row.effective_from, zone))
        return rows[index - 1] if index else None

    def find(self, account: str, sku: str, region: str, currency: str, instant: int, zone: tzinfo) -> PriceRow | None:
        """The row that prices usage at an instant: the right account before none, then the right region before none."""
        for key in self.keys_in_force(account, sku, region, currency):
            row = self.in_force(key, instant, zone)
            if row is not None:
                return row
        return None

    def of_keys(self, keys: Iterable[PriceKey]) -> PriceList:
        """The rows of some keys."""
        return PriceList(row for key in set(keys) for row in self._by_key[key])

    def changes_within(self, start: int, end: int, zone: tzinfo) -> set[int]:
        """The instants inside an interval at which some row comes into force."""
        days = {row.effective_from for row in self.rows}
        return {instant for day in days if start < (instant := effective_instant(day, zone)) < end}


def effective_instant(day: str, zone: tzinfo) -> int:
    """The first instant of the day on which a price comes into force."""
    cached = _INSTANTS.get((day, zone))
    if cached is None:
        cached = _INSTANTS[day, zone] = first_instant(date.fromisoformat(day), zone)
    return cached


_INSTANTS: dict[tuple[str, tzinfo], int] = {}


class MonthPrices:
    """What prices one month: lists in order of precedence; a later list prices only what the earlier do not."""

    def __init__(self, lists: Sequence[PriceList], zone: tzinfo) -> None:
        self.lists = lists
        self._zone = zone
        self.own = {row.account_id for prices in lists for row in prices.rows} - {""}
        """The accounts that have prices of their own."""
        self._found: dict[tuple[str, str, str, str, int], tuple[int, PriceRow] | None] = {}
        """What was looked up; accounts without prices of their own share it."""

    def find(self, account: str, sku: str, region: str, currency: str, instant: int) -> tuple[int, PriceRow] | None:
        """The price in force at an instant, and which list gave it."""
        key = (account if account in self.own else "", sku, region, currency, instant)
        try:
            return self._found[key]
        except KeyError:
            found = self._found[key] = self._find(*key)
            return found

    def _find(self, account: str, sku: str, region: str, currency: str, instant: int) -> tuple[int, PriceRow] | None:
        for index, prices in enumerate(self.lists):
            row = prices.find(account, sku, region, currency, instant, self._zone)
            if row is not None:
                return index, row
        return None

    def cuts(self, start: int, end: int) -> set[int]:
        """The instants inside an interval at which a price may change."""
        return set().union(*(prices.changes_within(start, end, self._zone) for prices in self.lists))
