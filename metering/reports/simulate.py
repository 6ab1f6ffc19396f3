"""`metering simulate`: a month's usage under another price list, account by account."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import duckdb
import pyarrow as pa

from metering.accounts.imports import account_currencies
from metering.charges.prices import MonthPrices, read_prices
from metering.charges.rating import Rated, UsageSum, rate_usage
from metering.charges.stored import in_force, stored_lists
from metering.close.drafting import periods_of, usage_sums
from metering.close.month import without_collector
from metering.columns import table_of
from metering.errors import UsageError
from metering.home import Home
from metering.state import with_usage
from metering.usage import meter
from metering.values import Month, counted, rate

COLUMNS = pa.schema(
    {
        "account_id": pa.string(),
        "currency": pa.string(),
        "gb_hours": pa.decimal128(38, 0),
        "gb_hours_unpriced": pa.decimal128(38, 0),
        "amount_now": pa.int64(),
        "amount_simulated": pa.int64(),
        "difference": pa.int64(),
    }
)


def simulate(home: Home, month: Month, path: str, account: str | None = None) -> tuple[pa.Table, list[str]]:
    """A row for each account with usage in the month, and what a person should know of it.

    What counts now are the month's stored prices, then the current ones, as in a close; the other book stands
    alone. Raises UsageError for a month that has not begun and for a file that is no price list.
    """
    zone, gigabyte_bytes = home.config.billing.zone, home.config.billing.gigabyte_bytes
    start, end = month.bounds(zone)
    if start >= home.now:
        raise UsageError(
            f"{month} has not begun: there is no usage to rate.", remedy="Name this month or an earlier one."
        )
    other = read_prices(path)
    with home.book.read() as con:
        counting = in_force(stored_lists(con), [str(month)], read_prices(str(home.prices_file)), zone)
        currency_of = account_currencies(con)
    simulated = {str(month): MonthPrices([other], zone)}

    def usage(duck: duckdb.DuckDBPyConnection) -> list[UsageSum]:
        both = {str(month): MonthPrices([*counting[str(month)].lists, other], zone)}
        meter.set_periods(duck, periods_of({str(month): (start, end)}, both))
        return list(usage_sums(meter.account_usage(duck)))

    with without_collector():
        sums = with_usage(home.lake, home.now, zone, usage, home.config.engine.memory_limit)
        now, then = (rate_usage(sums, currency_of, prices) for prices in (counting, simulated))
        amounts_now = _amounts(now, currency_of, gigabyte_bytes)
        amounts_then = _amounts(then, currency_of, gigabyte_bytes)
        used, unpriced = _used(then)
        rows = (
            (
                name,
                currency,
                used[name],
                unpriced.get(name, 0),
                amounts_now.get(name, 0) if currency else None,
                amounts_then.get(name, 0) if currency else None,
                amounts_then.get(name, 0) - amounts_now.get(name, 0) if currency else None,
            )
            for name in sorted(used)
            if account in (None, name)
            for currency in [currency_of.get(name)]
        )
        return table_of(COLUMNS, rows), list(_sentences(home, end, unpriced, currency_of))


def _amounts(rated: Rated, currency_of: Mapping[str, str], gigabyte_bytes: int) -> dict[str, int]:
    """What each account pays: every line rounded by itself, as on an invoice."""
    found: dict[str, int] = defaultdict(int)
    for key, byte_micros in rated.charges.items():
        found[key.account_id] += rate(byte_micros, key.price_per_gb_hour, currency_of[key.account_id], gigabyte_bytes)
    return found


def _used(rated: Rated) -> tuple[dict[str, int], dict[str, int]]:
    """What each account used, and what of it has no price."""
    used: dict[str, int] = defaultdict(int)
    unpriced: dict[str, int] = defaultdict(int)
    for key, byte_micros in rated.charges.items():
        used[key.account_id] += byte_micros
    for _, usage in rated.unbillable:
        used[usage.account_id] += usage.byte_micros
        unpriced[usage.account_id] += usage.byte_micros
    return used, unpriced


def _sentences(home: Home, end: int, unpriced: Mapping[str, int], currency_of: Mapping[str, str]) -> Iterator[str]:
    if home.now < end:
        yield "The month has not ended: this is its usage up to now."
    known = [name for name in unpriced if name in currency_of]
    if known:
        yield f"The price list has no price for some usage of {counted(len(known), 'account')}; see gb_hours_unpriced."
