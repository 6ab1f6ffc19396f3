"""`metering simulate`: a month's usage under another price list, account by account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import duckdb
import pyarrow as pa

from metering.accounts.imports import account_currencies
from metering.charges.prices import MonthPrices, read_prices
from metering.charges.rating import ChargeKey, Tariffs, Usage, charges_of
from metering.charges.stored import in_force, stored_lists
from metering.close.drafting import periods_of
from metering.close.month import without_collector
from metering.columns import table_of
from metering.errors import UsageError
from metering.home import Home
from metering.invoices.lines import owed
from metering.state import with_usage
from metering.usage import meter
from metering.values import Month, counted

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
    name = str(month)
    zone, gigabyte_bytes = home.config.billing.zone, home.config.billing.gigabyte_bytes
    start, end = month.bounds(zone)
    if start >= home.now:
        raise UsageError(
            f"{month} has not begun: there is no usage to rate.", remedy="Name this month or an earlier one."
        )
    other = read_prices(path)
    with home.book.read() as con:
        counting = in_force(stored_lists(con), [name], read_prices(str(home.prices_file)), zone)
        currency_of = account_currencies(con)
    simulated = {name: MonthPrices([other], zone)}

    def usage(duck: duckdb.DuckDBPyConnection) -> Usage:
        both = {name: MonthPrices([*counting[name].lists, other], zone)}
        meter.set_periods(duck, periods_of({name: (start, end)}, both))
        return Usage(meter.account_usage(duck))

    rows: list[tuple[Any, ...]] = []
    lacking = 0
    with without_collector():
        used = with_usage(home.lake, home.now, zone, usage, home.config.engine.memory_limit)
        books = [Tariffs(used.places, prices) for prices in (counting, simulated)]
        for who, members in used.accounts():
            currency, listed = currency_of.get(who), list(members)
            now, then = (charges_of(listed, tariffs.of(who, currency)) for tariffs in books)
            byte_micros = sum([one for _, _, one in listed])
            unpriced = byte_micros - sum(then.values())
            lacking += bool(currency and unpriced)
            if account in (None, who):
                amounts: tuple[int | None, ...] = (None, None, None)
                if currency:
                    before, after = (_amount(name, charges, currency, gigabyte_bytes) for charges in (now, then))
                    amounts = (before, after, after - before)
                rows.append((who, currency, byte_micros, unpriced, *amounts))
        return table_of(COLUMNS, rows), list(_sentences(home, end, lacking))


def _amount(month: str, charges: Mapping[ChargeKey, int], currency: str, gigabyte_bytes: int) -> int:
    """What an account pays: every line rounded by itself, as on an invoice."""
    due = owed(month, charges, {}, currency, gigabyte_bytes)
    return due.subtotal_minor if due else 0


def _sentences(home: Home, end: int, lacking: int) -> Iterator[str]:
    if home.now < end:
        yield "The month has not ended: this is its usage up to now."
    if lacking:
        yield f"The price list has no price for some usage of {counted(lacking, 'account')}; see gb_hours_unpriced."
