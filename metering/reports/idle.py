"""What forgotten snapshots have cost so far, and what each costs in a month."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import duckdb
import pyarrow as pa

from metering.charges.prices import MonthPrices, PriceList, read_prices
from metering.charges.stored import in_force, stored_lists
from metering.close.drafting import periods_of
from metering.close.unbilled import billed_months
from metering.home import Home
from metering.lake import compose, table
from metering.sql import sql
from metering.usage import meter
from metering.usage.meter import Period
from metering.values import Month, gb_hours_denominator, minor_digits

_SCALED = pa.decimal128(38, 0)
_MOST = 2**63 - 1
_RATES = {
    "period_start": pa.int64(),
    "period_end": pa.int64(),
    "owner": pa.string(),
    "sku": pa.string(),
    "region": pa.string(),
    "currency": pa.string(),
    "price_scaled": _SCALED,
}
_RATES_SINCE = {**_RATES, "begins": pa.int64(), "later_scaled": _SCALED}
_MONTH_RATES = {**_RATES, "multiplier": pa.int64(), "divisor": pa.int64(), "short": pa.int64()}


class Key(NamedTuple):
    """What a price is looked up for; `owner` is an account with prices of its own, or empty for all others."""

    owner: str
    sku: str
    region: str
    currency: str


Rate = tuple[Period, Key, Decimal]
Row = tuple[int | str, ...]


def give_costs(home: Home, con: duckdb.DuckDBPyConnection, *, keep_lifespans: bool) -> None:
    """Set periods and prices for `idle.sql`: of all billed months up to now, and of the current month.

    With `keep_lifespans` those that are alive are computed once; then the connection answers for no other report.
    Prices are integers of one common scale, so that SQL multiplies and adds exactly; an overflow is an error.
    """
    zone = home.config.billing.zone
    months = [str(month) for month in billed_months(home, con)]
    current = Month.of(home.now, zone)
    with home.book.read() as ledger:
        lists = stored_lists(ledger)
    prices = in_force(lists, {*months, str(current)}, read_prices(str(home.prices_file)), zone)
    bounds = {name: Month.parse(name).bounds(zone) for name in months}
    eras = _eras(periods_of(bounds, prices), prices)
    # Idle is only what is alive: all that has ended by now is left out, however far back costs are counted.
    meter.set_periods(con, eras, alive_after=home.now)
    if keep_lifespans:
        meter.compute_lifespans(con)
    owners = {row.account_id for found in prices.values() for listed in found.lists for row in listed.rows} - {""}
    con.register("price_owners", pa.table({"account_id": pa.array(sorted(owners), pa.string())}))
    keys = [
        Key(owner, sku, region, currency)
        for owner, currency in con.execute(compose(con, sql("reports", "idle_owners"), "reports")).fetchall()
        for sku, region in con.execute(compose(con, sql("reports", "idle_places"), "usage")).fetchall()
    ]
    spent = [rate for era in eras for rate in _found(keys, era, prices[era.month], era.period_start)]
    ahead = list(_found(keys, Period(str(current), *current.bounds(zone)), prices[str(current)], home.now))
    places = max((-int(price.as_tuple().exponent) for *_, price in (*spent, *ahead)), default=0)
    gb_hour = gb_hours_denominator(home.config.billing.gigabyte_bytes)
    con.register("cost_rates", _table(_RATES, (_scaled(rate, places) for rate in spent)))
    since, largest = _since(spent, places, home.now)
    con.register("cost_rates_since", _table(_RATES_SINCE, since))
    con.register("cost_bound", pa.table({"largest": pa.array([largest], pa.int64())}))
    con.register(
        "month_rates", _table(_MONTH_RATES, (_scaled(rate, places) + _by_size(rate, gb_hour) for rate in ahead))
    )
    con.register("cost_units", _units({key.currency for key in keys}, gb_hour, gb_hour * 10**places))
    if keep_lifespans:
        # The engine knows how long a table is, and so which side of a join is the small one.
        table(con, "idle_stretches", compose(con, sql("reports", "idle_stretches"), "reports", "usage"))


def _eras(periods: list[Period], prices: dict[str, MonthPrices]) -> list[Period]:
    """The periods, joined over the ends of months where no price changes: fewer sums for the same cost."""
    joined: list[Period] = []
    for period in periods:
        last = joined[-1] if joined else None
        if last and last.period_end == period.period_start and not _changes(last, period, prices):
            joined[-1] = last._replace(period_end=period.period_end)
        else:
            joined.append(period)
    return joined


def _changes(before: Period, after: Period, prices: dict[str, MonthPrices]) -> bool:
    """Whether a price may change between two adjacent periods."""
    edge = after.period_start
    lists = _distinct(prices[after.month].lists)
    return lists != _distinct(prices[before.month].lists) or bool(prices[after.month].cuts(edge - 1, edge + 1))


def _distinct(lists: Iterable[PriceList]) -> list[str]:
    return list(dict.fromkeys(prices.hash for prices in lists))


def _found(keys: Iterable[Key], period: Period, prices: MonthPrices, instant: int) -> Iterator[Rate]:
    """The prices of keys at an instant, as far as there are any."""
    for key in keys:
        price = prices.find(*key, instant)
        if price is not None:
            yield period, key, price[1].price_per_gb_hour


def _scaled(rate: Rate, places: int) -> Row:
    """A price as an integer of a common scale."""
    period, key, price = rate
    return (period.period_start, period.period_end, *key, int(price.scaleb(places)))


def _since(spent: Iterable[Rate], places: int, now: int) -> tuple[list[Row], int]:
    """What a byte has cost up to now since an instant in each period, or in the gap before it.

    That is the price from there to the period's end, and `later_scaled`, which is all periods after it. Also the
    largest size whose product with all of it fits 128 bits, with room for what was spent before.
    """
    by_key: dict[Key, list[tuple[int, int, int]]] = {}
    for period, key, price in spent:
        if period.period_start < now:
            until = min(period.period_end, now)
            by_key.setdefault(key, []).append((period.period_start, until, int(price.scaleb(places))))
    rows: list[Row] = []
    most = 1
    for key, periods in by_key.items():
        later = 0
        begins = [meter.EVER, *(until for _, until, _ in periods)]
        for (start, until, scaled), begin in reversed([*zip(periods, begins, strict=False)]):
            rows.append((start, until, *key, scaled, begin, later))
            later += scaled * (until - start)
        most = max(most, later)
    largest = min(10**36 // most, _MOST)
    return (rows if largest else []), largest


def _by_size(rate: Rate, gb_hour: int) -> Row:
    """What a size is multiplied and divided by to give minor units of a period, and up to which size in 64 bits."""
    period, key, price = rate
    micros = period.period_end - period.period_start
    cost = Fraction(price) * Fraction(micros * 10 ** minor_digits(key.currency), gb_hour)
    short = (_MOST - cost.denominator) // (2 * max(cost.numerator, 1))
    return (cost.numerator, cost.denominator, short) if short > 0 and 2 * cost.denominator <= _MOST else (0, 1, -1)


def _table(columns: Mapping[str, pa.DataType], rows: Iterable[Row]) -> pa.Table:
    values = list(zip(*rows, strict=True)) or [()] * len(columns)
    return pa.table(
        {name: pa.array(column, kind) for (name, kind), column in zip(columns.items(), values, strict=True)}
    )


def _units(currencies: Iterable[str], gb_hour: int, denominator: int) -> pa.Table:
    """What a scaled cost is multiplied and divided by to give minor units, for each currency; and one GB-hour."""
    names = sorted(currencies)
    return pa.table(
        {
            "currency": pa.array(names, pa.string()),
            "minor_units": pa.array([10 ** minor_digits(name) for name in names], pa.int64()),
            "gb_hour": pa.array([Decimal(gb_hour)] * len(names), _SCALED),
            "denominator": pa.array([Decimal(denominator)] * len(names), _SCALED),
        }
    )
