"""Usage that cannot be billed: of unknown accounts, or without a price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import duckdb

from metering.charges.prices import read_prices
from metering.charges.rating import Unbillable, rate_usage
from metering.charges.stored import in_force, stored_lists
from metering.close.closed import closed_months
from metering.close.drafting import periods_of, sums
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
    return rate_usage(sums(con), currency_of, prices).unbillable
