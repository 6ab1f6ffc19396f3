"""What forgotten snapshots have cost so far, and what each costs in a month."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import cache

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

_USAGE = pa.decimal128(38, 0)
_RATES = {
    "period_start": pa.int64(),
    "period_end": pa.int64(),
    "account_id": pa.string(),
    "sku": pa.string(),
    "region": pa.string(),
    "price_scaled": _USAGE,
}
Key = tuple[str, str, str, str]
Price = Callable[[Key], Decimal | None]


def give_costs(home: Home, con: duckdb.DuckDBPyConnection, *, keep_lifespans: bool = False) -> None:
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
    keys: list[Key] = con.execute(compose(con, sql("reports", "idle_keys"), "reports", "usage")).fetchall()
    spent = [(era, _prices(prices[era.month], era.period_start)) for era in eras]
    now = (Period(str(current), *current.bounds(zone)), _prices(prices[str(current)], home.now))
    places = max((_places(price(key)) for key in keys for _, price in (*spent, now)), default=0)
    con.register("cost_rates", _rates(keys, spent, places))
    con.register("month_rates", _rates(keys, [now], places))
    con.register("cost_currencies", _currencies(keys, gb_hours_denominator(home.config.billing.gigabyte_bytes), places))


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


def _prices(prices: MonthPrices, instant: int) -> Price:
    """The price of a key at an instant; accounts without prices of their own are looked up once for all."""
    own = {row.account_id for found in prices.lists for row in found.rows}

    @cache
    def find(account: str, sku: str, region: str, currency: str) -> Decimal | None:
        found = prices.find(account, sku, region, currency, instant)
        return found[1].price_per_gb_hour if found else None

    return lambda key: find(key[0] if key[0] in own else "", *key[1:])


def _places(price: Decimal | None) -> int:
    return -int(price.as_tuple().exponent) if price is not None else 0


def _rates(keys: list[Key], priced: list[tuple[Period, Price]], places: int) -> pa.Table:
    rows = [
        (period.period_start, period.period_end, *key[:3], int(found.scaleb(places)))
        for period, price in priced
        for key in keys
        if (found := price(key)) is not None
    ]
    columns = zip(*rows, strict=True) if rows else [()] * len(_RATES)
    arrays = [pa.array(values, kind) for values, kind in zip(columns, _RATES.values(), strict=True)]
    return pa.table(arrays, names=list(_RATES))


def _currencies(keys: list[Key], denominator: int, places: int) -> pa.Table:
    """What a scaled cost is divided by to give minor units, for each account."""
    currency_of = {account: currency for account, _, _, currency in keys}
    return pa.table(
        {
            "account_id": pa.array(list(currency_of), pa.string()),
            "currency": pa.array(list(currency_of.values()), pa.string()),
            "minor_units": pa.array([10 ** minor_digits(currency) for currency in currency_of.values()], pa.int64()),
            "denominator": pa.array([Decimal(denominator * 10**places)] * len(currency_of), _USAGE),
        }
    )
