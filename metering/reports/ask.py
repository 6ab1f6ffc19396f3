"""Asking for a report: the relations that it reads, the filter, and its rows as Arrow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import duckdb
import pyarrow as pa

from metering.close.files import path_of
from metering.close.unbilled import billed_months, unbillable
from metering.errors import UsageError
from metering.home import Home
from metering.lake import compose, connect, give_files, reads
from metering.ledger.arrow import attach_ledger
from metering.reports.catalog import reports
from metering.schema import empty_table, tables
from metering.sql import sql
from metering.state import open_usage
from metering.state.files import BROKEN
from metering.usage import meter
from metering.values import Month, format_instant

Answer = TypeVar("Answer")
IDLE_DAYS = 90
USAGE_BY = ("account", "project", "snapshot", "day")
GIVEN = {"simulation": "metering simulate --prices FILE --month M"}
"""Reports that need more than a filter, and the command that gives it."""


_CURRENCIES = "SELECT account_id, currency FROM current_accounts"
_RESOLVED = "SELECT id FROM quarantine_resolutions"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows are asked for: a range of months (inclusive), an account, events up to a batch, a snapshot."""

    month_from: Month | None = None
    month_to: Month | None = None
    account_id: str | None = None
    as_of: int | None = None
    snapshot_id: str | None = None
    days: int = IDLE_DAYS
    all_events: bool = False
    """Read all events, also where the state of the lifespans would answer."""

    @property
    def told(self) -> str:
        """The filter as a reader of a file needs it."""
        words = {
            "months": f"{self.month_from or 'the first'} to {self.month_to or 'the last'}",
            "account": self.account_id,
            "events up to batch": self.as_of,
            "snapshot": self.snapshot_id,
        }
        if self.month_from is None and self.month_to is None:
            words["months"] = None
        return "; ".join(f"{name}: {value}" for name, value in words.items() if value is not None) or "none"


def ask(home: Home, name: str, wanted: Filter = Filter()) -> pa.Table:
    """The rows of a report, sorted: money in minor units, usage in byte-microseconds, instants in microseconds."""

    def rows(desk: Desk) -> pa.Table:
        desk.prepare(name)
        return desk.con.sql(desk.query(name)).to_arrow_table()

    return at_desk(home, rows, wanted)


def at_desk(home: Home, task: Callable[[Desk], Answer], wanted: Filter = Filter()) -> Answer:
    """What is done at a desk; done again with all events where files of the state are gone or damaged."""
    desk = Desk(home, wanted)
    try:
        return task(desk)
    except BROKEN:
        if not desk.is_kept:
            raise
    desk.con.close()
    return task(Desk(home, replace(wanted, all_events=True)))


def report_name(
    name: str, *, by: str | None = None, billed: bool = False, as_of: int | None = None, days: int | None = None
) -> str:
    """The report that a name and its options mean; UsageError where an option belongs to another report."""
    if days is not None and name != "idle":
        raise UsageError("--days belongs to the report `idle`.")
    if name != "usage":
        if (by or "account") != "account" or billed or as_of is not None:
            raise UsageError("--by, --billed and --as-of belong to the report `usage`.")
        return name
    if by not in (None, *USAGE_BY):
        raise UsageError(f"There is no usage by {by!r}.", remedy=f"By: {', '.join(USAGE_BY)}.")
    if billed and by == "day":
        raise UsageError("--billed cannot go by day: invoices are by month.")
    chosen = name if by in (None, "account") else f"usage-by-{by}"
    return f"billed-{chosen}" if billed else chosen


def state_of(home: Home) -> dict[str, str]:
    """What the home's figures stand on: engine time, events, closed months and the last run."""
    billing = home.config.billing
    con = connect()
    attach_ledger(con, home.book, ("closes", "runs", "transactions"))
    ((closed, run, posted),) = con.execute(sql("reports", "book_state")).fetchall()
    return {
        "made at": format_instant(home.now),
        "events": f"up to batch {home.lake.manifest().last_batch}",
        "closed": f"up to {closed}" if closed else "no month yet",
        "book": f"up to run {run or 0}, {posted} transactions",
        "billing": f"months in {billing.timezone}; 1 gigabyte is {billing.gigabyte_bytes:,} bytes",
    }


class Desk:
    """One connection with the relations that reports read, each opened once."""

    def __init__(self, home: Home, wanted: Filter = Filter()) -> None:
        self.home = home
        self.wanted = wanted
        self.con: duckdb.DuckDBPyConnection = connect(home.config.engine.memory_limit)
        self._opened: set[str] = set()
        self.is_kept = False
        """Whether lifespans come from the state."""
        self._give_filter()

    def prepare(self, name: str) -> None:
        """Open what a report reads; `metering/reports/<name>.sql` can then be asked."""
        if name not in reports():
            told = ", ".join(sorted(reports().keys() - GIVEN.keys()))
            raise UsageError(f"There is no report {name!r}.", remedy=f"The reports are: {told}.")
        if name in GIVEN:
            raise UsageError(f"{name!r} needs more than a filter.", remedy=f"Run `{GIVEN[name]}`.")
        if name in _SOURCES:
            _SOURCES[name](self)
        else:
            self.ledger(sql("reports", name))

    def query(self, name: str) -> str:
        """The SQL of a report, once it is prepared."""
        return compose(self.con, sql("reports", name), "reports", "usage")

    def _first(self, what: str) -> bool:
        """Whether something is opened for the first time."""
        known = what in self._opened
        self._opened.add(what)
        return not known

    def _give_filter(self) -> None:
        zone, wanted = self.home.config.billing.zone, self.wanted
        first, last = wanted.month_from, wanted.month_to
        self.con.execute(
            sql("reports", "asked"),
            {
                "month_from": str(first or "0001-01"),
                "month_to": str(last or "9999-12"),
                "time_from": first.bounds(zone)[0] if first else -(2**62),
                "time_to": last.bounds(zone)[1] if last else 2**62,
                "is_all": first is None and last is None,
                "account_id": wanted.account_id,
                "snapshot_id": wanted.snapshot_id,
                "now_us": self.home.now,
                "days": wanted.days,
            },
        )

    # What reports read

    def ledger(self, *queries: str) -> None:
        """The book's tables, all of them or those that some queries read; once all are there, as they stood then."""
        if "ledger" in self._opened:
            return
        if not queries:
            self._opened.add("ledger")
            attach_ledger(self.con, self.home.book)
            return
        known = [name for name, found in tables().items() if found.stored == "ledger"]
        wanted = {name for query in queries for name in reads(query, known, "reports", "usage")}
        attach_ledger(self.con, self.home.book, tuple(sorted(wanted)))

    def allocations(self) -> None:
        """The shares of the snapshots in all issued lines."""
        self.ledger()
        if not self._first("allocations"):
            return
        months = [row[0] for row in self.con.execute("FROM closes SELECT month ORDER BY month").fetchall()]
        found = (self.home.lake.files.find(path_of(month, "allocations")) for month in months)
        present = [path for path in found if path]
        if present:
            give_files(self.con, "allocations", present)
        else:
            self.con.register("allocations", empty_table("allocations"))

    def lifespans(self) -> None:
        """The relations of usage, with time standing at now."""
        if not self._first("usage"):
            return
        self._first("events")
        home, wanted = self.home, self.wanted
        zone, through = home.config.billing.zone, self._checked()
        # Also what fails while it is opened may be the state's.
        self.is_kept = not wanted.all_events
        self.is_kept = open_usage(
            self.con, home.lake, home.now, zone, through, anomalies=True, all_events=wanted.all_events
        )

    def events(self) -> None:
        """The events of the lake, and its quarantine."""
        if self._first("events"):
            self.home.lake.attach(self.con, self._checked())

    def _checked(self) -> int | None:
        """The batch asked for; UsageError if there is none of that number."""
        last = self.home.lake.manifest().last_batch
        if self.wanted.as_of is not None and not 0 <= self.wanted.as_of <= last:
            raise UsageError(f"--as-of {self.wanted.as_of}: the last batch is {last}.")
        return self.wanted.as_of

    def usage(self) -> None:
        """Usage by month."""
        self.lifespans()
        meter.set_periods(self.con, meter.month_periods(self.months(), self.home.config.billing.zone))

    def usage_by_day(self) -> None:
        """Usage by day."""
        self.lifespans()
        days = meter.day_periods(self.months(), self.home.config.billing.zone)
        meter.set_periods(self.con, days.values())
        self.con.register(
            "days",
            pa.table(
                {
                    "day": pa.array(list(days), pa.string()),
                    "period_start": pa.array([period.period_start for period in days.values()], pa.int64()),
                }
            ),
        )

    def months(self) -> list[Month]:
        """The months asked for, as far as there is usage up to now."""
        zone = self.home.config.billing.zone
        first = meter.first_month(self.con, zone)
        if first is None:
            return []
        first = max(first, self.wanted.month_from or first)
        current = Month.of(self.home.now, zone)
        last = min(self.wanted.month_to or current, current)
        return meter.months_between(first, last)

    def anomalies(self) -> None:
        """What a person should know of."""
        self.lifespans()
        self.ledger(_CURRENCIES, _RESOLVED)
        home, con = self.home, self.con
        known = dict(con.execute(compose(con, _CURRENCIES, "reports")).fetchall())
        resolved = [row[0] for row in con.execute(_RESOLVED).fetchall()]
        months = billed_months(home, con)
        unpriced = [
            meter.Unpriced(u.month, u.account_id, u.sku, u.region, u.period_start, u.period_end)
            for reason, u in unbillable(home, con, known, months)
            if reason == "no_price"
        ]
        meter.set_periods(con, meter.month_periods(months, home.config.billing.zone))
        con.register("found_anomalies", meter.anomalies(con, accounts=known, unpriced=unpriced, resolved=resolved))

    def billed(self) -> None:
        """What was invoiced beside what is known now."""
        if self.wanted.as_of is not None:
            raise UsageError("--billed is what was invoiced; --as-of asks for what was known.")
        self.allocations()
        self.usage()

    def quarantine(self) -> None:
        """Bad lines, and which of them were put aside."""
        self.events()
        if self._first("resolutions") and "ledger" not in self._opened:
            attach_ledger(self.con, self.home.book, ("quarantine_resolutions",))

    def forecast(self) -> None:
        """What the months that are not closed will come to."""
        from metering.reports.forecast import forecast

        rows = forecast(self.home, self.wanted.month_from, self.wanted.month_to)
        self.con.register("forecast_rows", rows)

    def idle(self) -> None:
        """What snapshots have cost and will cost."""
        from metering.reports.idle import give_costs

        self.lifespans()
        self.ledger(sql("reports", "idle"), sql("reports", "idle_keys"))
        give_costs(self.home, self.con)


_SOURCES: dict[str, Callable[[Desk], None]] = {
    "usage": Desk.usage,
    "usage-by-project": Desk.usage,
    "usage-by-snapshot": Desk.usage,
    "usage-by-day": Desk.usage_by_day,
    "allocations": Desk.allocations,
    "snapshot-lines": Desk.allocations,
    "billed-usage": Desk.billed,
    "billed-usage-by-project": Desk.billed,
    "billed-usage-by-snapshot": Desk.billed,
    "usage-difference": Desk.billed,
    "anomalies": Desk.anomalies,
    "quarantine": Desk.quarantine,
    "forecast": Desk.forecast,
    "idle": Desk.idle,
}
