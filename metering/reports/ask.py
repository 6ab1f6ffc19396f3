"""Asking for a report: the relations that it reads, the filter, and its rows as Arrow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import duckdb
import pyarrow as pa

from metering.close.files import path_of
from metering.close.unbilled import billed_months, unbillable
from metering.errors import UsageError
from metering.home import Home
from metering.lake import compose, connect
from metering.ledger.arrow import attach_ledger
from metering.reports.catalog import reports
from metering.schema import arrow_schema
from metering.sql import sql
from metering.state import open_usage
from metering.state.files import BROKEN
from metering.usage import meter
from metering.values import Month


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows are asked for: a range of months (inclusive), an account, events up to a batch, a snapshot."""

    month_from: Month | None = None
    month_to: Month | None = None
    account_id: str | None = None
    as_of: int | None = None
    snapshot_id: str | None = None
    all_events: bool = False
    """Read all events, also where the state of the lifespans would answer."""


def ask(home: Home, name: str, wanted: Filter = Filter()) -> pa.Table:
    """The rows of a report, sorted: money in minor units, usage in byte-microseconds, instants in microseconds."""
    if name not in reports():
        raise UsageError(f"There is no report {name!r}.", remedy=f"The reports are: {', '.join(sorted(reports()))}.")
    try:
        return _answer(home, name, wanted)
    except BROKEN:
        # Files of the state may be gone, because a run replaced it twice meanwhile, or damaged.
        return _answer(home, name, replace(wanted, all_events=True))


def _answer(home: Home, name: str, wanted: Filter) -> pa.Table:
    con = connect(home.config.engine.memory_limit)
    _give_filter(con, home, wanted)
    _SOURCES.get(name, _from_ledger)(con, home, wanted)
    return con.sql(compose(con, sql("reports", name), "reports", "usage")).to_arrow_table()


def _give_filter(con: duckdb.DuckDBPyConnection, home: Home, wanted: Filter) -> None:
    zone = home.config.billing.zone
    first, last = wanted.month_from, wanted.month_to
    con.execute(
        sql("reports", "asked"),
        {
            "month_from": str(first or "0001-01"),
            "month_to": str(last or "9999-12"),
            "time_from": first.bounds(zone)[0] if first else -(2**62),
            "time_to": last.bounds(zone)[1] if last else 2**62,
            "is_all": first is None and last is None,
            "account_id": wanted.account_id,
            "snapshot_id": wanted.snapshot_id,
        },
    )


def _from_ledger(con: duckdb.DuckDBPyConnection, home: Home, wanted: Filter) -> None:
    attach_ledger(con, home.book)


def _allocations(con: duckdb.DuckDBPyConnection, home: Home, wanted: Filter) -> None:
    _from_ledger(con, home, wanted)
    months = [row[0] for row in con.execute("FROM closes SELECT month ORDER BY month").fetchall()]
    paths = [home.lake.root / path_of(month, "allocations") for month in months]
    present = [str(path) for path in paths if path.exists()]
    if present:
        con.read_parquet(present).create_view("allocations", replace=True)
    else:
        con.from_arrow(arrow_schema("allocations").empty_table()).create_view("allocations", replace=True)


def _usage(con: duckdb.DuckDBPyConnection, home: Home, wanted: Filter) -> None:
    _open_usage(con, home, wanted)
    meter.set_periods(con, meter.month_periods(_months(con, home, wanted), home.config.billing.zone))


def _usage_by_day(con: duckdb.DuckDBPyConnection, home: Home, wanted: Filter) -> None:
    _open_usage(con, home, wanted)
    days = meter.day_periods(_months(con, home, wanted), home.config.billing.zone)
    meter.set_periods(con, days.values())
    con.register(
        "days",
        pa.table(
            {
                "day": pa.array(list(days), pa.string()),
                "period_start": pa.array([period.period_start for period in days.values()], pa.int64()),
            }
        ),
    )


def _open_usage(con: duckdb.DuckDBPyConnection, home: Home, wanted: Filter, *, anomalies: bool = False) -> None:
    last = home.lake.manifest().last_batch
    if wanted.as_of is not None and not 0 <= wanted.as_of <= last:
        raise UsageError(f"--as-of {wanted.as_of}: the last batch is {last}.")
    zone = home.config.billing.zone
    open_usage(con, home.lake, home.now, zone, wanted.as_of, anomalies=anomalies, all_events=wanted.all_events)


def _months(con: duckdb.DuckDBPyConnection, home: Home, wanted: Filter) -> list[Month]:
    """The months asked for, as far as there is usage up to now."""
    zone = home.config.billing.zone
    first = meter.first_month(con, zone)
    if first is None:
        return []
    first = max(first, wanted.month_from or first)
    current = Month.of(home.now, zone)
    last = min(wanted.month_to or current, current)
    return meter.months_between(first, last)


def _anomalies(con: duckdb.DuckDBPyConnection, home: Home, wanted: Filter) -> None:
    _open_usage(con, home, wanted, anomalies=True)
    attach_ledger(con, home.book)
    query = compose(con, "SELECT account_id, currency FROM current_accounts", "reports")
    known = dict(con.execute(query).fetchall())
    resolved = [row[0] for row in con.execute("FROM quarantine_resolutions SELECT id").fetchall()]
    months = billed_months(home, con)
    unpriced = [
        meter.Unpriced(u.month, u.account_id, u.sku, u.region, u.period_start, u.period_end)
        for reason, u in unbillable(home, con, known, months)
        if reason == "no_price"
    ]
    meter.set_periods(con, meter.month_periods(months, home.config.billing.zone))
    con.register("found_anomalies", meter.anomalies(con, accounts=known, unpriced=unpriced, resolved=resolved))


def _billed(con: duckdb.DuckDBPyConnection, home: Home, wanted: Filter) -> None:
    if wanted.as_of is not None:
        raise UsageError("--billed is what was invoiced; --as-of asks for what was known.")
    _allocations(con, home, wanted)
    _usage(con, home, wanted)


def _quarantine(con: duckdb.DuckDBPyConnection, home: Home, wanted: Filter) -> None:
    home.lake.attach(con)
    attach_ledger(con, home.book, ("quarantine_resolutions",))


_SOURCES: dict[str, Callable[[duckdb.DuckDBPyConnection, Home, Filter], None]] = {
    "usage": _usage,
    "usage-by-project": _usage,
    "usage-by-snapshot": _usage,
    "usage-by-day": _usage_by_day,
    "allocations": _allocations,
    "snapshot-lines": _allocations,
    "billed-usage": _billed,
    "billed-usage-by-project": _billed,
    "billed-usage-by-snapshot": _billed,
    "usage-difference": _billed,
    "anomalies": _anomalies,
    "quarantine": _quarantine,
}
