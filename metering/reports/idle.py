"""What forgotten snapshots have cost so far, and what each costs in a month."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import NamedTuple

import duckdb
import pyarrow as pa

from metering.charges.prices import MonthPrices, PriceList, read_prices
from metering.charges.stored import in_force, stored_lists
from metering.close.drafting import periods_of
from metering.close.unbilled import billed_months
from metering.home import Home
from metering.lake import compose
from metering.sql import sql
from metering.usage import meter
from metering.usage.meter import Period
from metering.values import Month, gb_hours_denominator, minor_digits

_SCALED = pa.decimal128(38, 0)
_RATES = {
    "period_start": pa.int64(),
    "period_end": pa.int64(),
    "owner": pa.string(),
    "sku": pa.string(),
    "region": pa.string(),
    "currency": pa.string(),
    "price_scaled": _SCALED,
}


class Key(NamedTuple):
    """What a price is looked up for; `owner` is an account with prices of its own, or empty for all others."""

    owner: str
    sku: str
    region: str
    currency: str


Rate = tuple[Period, Key, Decimal]


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
    con.register("cost_rates", _rates(spent, places))
    con.register("month_rates", _rates(ahead, places))
    gb_hour = gb_hours_denominator(home.config.billing.gigabyte_bytes)
    con.register("cost_units", _units({key.currency for key in keys}, gb_hour, gb_hour * 10**places))


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


def _rates(found: Iterable[Rate], places: int) -> pa.Table:
    """Prices as integers of one scale."""
    rows = [(period.period_start, period.period_end, *key, int(price.scaleb(places))) for period, key, price in found]
    columns = zip(*rows, strict=True) if rows else [()] * len(_RATES)
    arrays = [pa.array(values, kind) for values, kind in zip(columns, _RATES.values(), strict=True)]
    return pa.table(arrays, names=list(_RATES))


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
