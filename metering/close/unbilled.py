"""Usage that cannot be billed: of unknown accounts, or without a price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from operator import attrgetter

import duckdb

from metering.charges.prices import MonthPrices, read_prices
from metering.charges.rating import Tariffs, Unbillable, Usage, unbillable_of
from metering.charges.stored import in_force, stored_lists
from metering.close.drafting import periods_of
from metering.close.order import closed_months
from metering.home import Home
from metering.usage import meter
from metering.values import Month


def billed_months(home: Home, con: duckdb.DuckDBPyConnection) -> list[Month]:
    """The months from the beginning of billing up to now: closed ones, and those that will be."""
    zone = home.config.billing.zone
    with home.book.read() as ledger:
        closed = closed_months(ledger)
    first = closed[0] if closed else home.config.billing.start_month or meter.first_month(con, zone)
    return [] if first is None else meter.months_between(first, Month.of(home.now, zone))


def unbillable(
    home: Home, con: duckdb.DuckDBPyConnection, currency_of: Mapping[str, str], months: Iterable[Month]
) -> list[Unbillable]:
    """What cannot be billed in some months, as known now; `con` has this home's usage relations."""
    zone = home.config.billing.zone
    names = [str(month) for month in months]
    with home.book.read() as ledger:
        prices = in_force(stored_lists(ledger), names, read_prices(str(home.prices_file)), zone)
    bounds = {name: Month.parse(name).bounds(zone) for name in names}
    meter.set_periods(con, periods_of(bounds, prices))
    pairs = _suspects(meter.used_keys(con), currency_of, prices, periods_of(bounds, prices))
    if not pairs:
        return []
    months_of_pairs = {month: bounds[month] for month, _ in pairs}
    meter.set_periods(con, periods_of(months_of_pairs, prices))
    usage = Usage(meter.account_usage(con, sorted(pairs)))
    tariffs = Tariffs(usage.places, prices)
    return [
        one
        for account, used in usage.accounts()
        for one in unbillable_of(used, tariffs.of(account, currency_of.get(account)))
    ]


def gaps(found: Iterable[Unbillable]) -> list[meter.Unpriced]:
    """The periods without a price, each whole within its month, though the price of something else changes in it."""
    whole: dict[tuple[str, str, str, str, int], meter.Unpriced] = {}
    unpriced = (usage for reason, usage in found if reason == "no_price")
    for month, start, end, account, sku, region, _ in sorted(unpriced, key=attrgetter("period_start")):
        key = (month, account, sku, region)
        before = whole.pop((*key, start), None)
        begun = before.period_start if before else start
        whole[(*key, end)] = meter.Unpriced(*key, begun, end)
    return list(whole.values())


def _suspects(
    keys: Iterable[tuple[str, str, str]],
    currency_of: Mapping[str, str],
    prices: Mapping[str, MonthPrices],
    periods: Sequence[meter.Period],
) -> set[tuple[str, str]]:
    """The months and accounts in which something could not be billed if it was used: usually next to none.

    To look for it in the keys is much cheaper than to rate the usage of all months.
    """
    own = set().union(*(month.own for month in prices.values()))

    @cache
    def unpriced(account: str, sku: str, region: str, currency: str) -> frozenset[str]:
        """The months in which an account, or all without prices of their own, could not be billed."""
        return frozenset(
            period.month
            for period in periods
            if prices[period.month].find(account, sku, region, currency, period.period_start) is None
        )

    everything = frozenset(prices)
    found = set()
    for account, sku, region in keys:
        currency = currency_of.get(account)
        owner = account if account in own else ""
        months = everything if currency is None else unpriced(owner, sku, region, currency)
        found |= {(month, account) for month in months}
    return found
