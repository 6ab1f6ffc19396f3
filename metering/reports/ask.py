"""Asking for a report: the relations that it reads, the filter, and its rows as Arrow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from metering.charges.rating import Unbillable
from metering.close.files import made_again, path_of
from metering.close.unbilled import billed_months, gaps, unbillable
from metering.errors import UsageError, meant
from metering.home import Home
from metering.lake import answer, compose, connect, count, every, give_files, reads, table
from metering.ledger.arrow import attach_ledger
from metering.reports.catalog import GIVEN, reports
from metering.schema import empty_table, tables
from metering.sql import sql
from metering.state import open_usage
from metering.state.files import BROKEN
from metering.usage import meter
from metering.values import Month, format_instant

Answer = TypeVar("Answer")
IDLE_DAYS = 90
EARLIEST = 2000
"""A filter that begins before this year begins with the first usage."""
USAGE_BY = ("account", "project", "snapshot", "day")

_OF_NO_ACCOUNT = {"audit", "quarantine", "runs"}
"""Reports that have nothing to do with accounts."""
_OF_NOW = {*_OF_NO_ACCOUNT, "balances", "idle"}
"""Reports whose rows belong to no month."""
_CURRENCIES = every("current_accounts", "account_id, currency")
_RESOLVED = every("quarantine_resolutions", "id")
_CLOSED = every("closes", "month", order="month")


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

    def rows(reader: Reader) -> pa.Table:
        reader.prepare(name)
        return answer(reader.con, reader.query(name))

    return with_reader(home, rows, wanted)


def with_reader(
    home: Home, task: Callable[[Reader], Answer], wanted: Filter = Filter(), *, several: bool = False
) -> Answer:
    """What a task reads through a reader; read again from all events where files of the state are gone or damaged."""
    reader = Reader(home, wanted, several=several)
    try:
        return task(reader)
    except BROKEN:
        if not reader.is_kept:
            raise
    reader.con.close()
    return task(Reader(home, replace(wanted, all_events=True), several=several))


def applicable(name: str, wanted: Filter) -> tuple[Filter, str]:
    """What of a filter a report knows, and a sentence about what it does not: figures of now are none of a month."""
    told = []
    if name in _OF_NOW and (wanted.month_from or wanted.month_to):
        wanted = replace(wanted, month_from=None, month_to=None)
        told.append(f"`{name}` says how things stand now, and knows no months")
    if name in _OF_NO_ACCOUNT and wanted.account_id is not None:
        wanted = replace(wanted, account_id=None)
        told.append(f"`{name}` is about no account")
    return wanted, f"{'; '.join(told)}: all of it follows." if told else ""


def report_name(
    name: str, *, by: str | None = None, billed: bool = False, as_of: int | None = None, days: int | None = None
) -> str:
    """The report that a name and its options mean; UsageError where an option belongs to another report."""
    if days is not None and name != "idle":
        raise UsageError("--days belongs to the report `idle`.", remedy="Leave it out.")
    if name != "usage":
        if (by or "account") != "account" or billed or as_of is not None:
            raise UsageError("--by, --billed and --as-of belong to the report `usage`.", remedy="Leave them out.")
        return name
    if by not in (None, *USAGE_BY):
        raise UsageError(f"There is no usage by {by!r}.", remedy=f"By: {', '.join(USAGE_BY)}.")
    if billed and by == "day":
        raise UsageError(
            "--billed cannot go by day: invoices are by month.", remedy="Leave out --billed, or go by snapshot."
        )
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


class Reader:
    """One connection with the relations that reports read, each opened once."""

    def __init__(self, home: Home, wanted: Filter = Filter(), *, several: bool = False) -> None:
        self.home = home
        self.wanted = wanted
        self._several = several
        """Whether more than one report is asked: then lifespans are computed once for all of them."""
        self.con: duckdb.DuckDBPyConnection = connect(home.config.engine.memory_limit)
        self._opened: set[str] = set()
        self._columns: dict[str, set[str]] = {}
        """What is there of the ledger's tables, where not all is."""
        self.is_kept = False
        """Whether lifespans come from the state."""
        self.unbillable: list[Unbillable] = []
        """Usage that cannot be billed, once anomalies are prepared."""
        self.ask_months(wanted.month_from, wanted.month_to)

    def prepare(self, name: str) -> None:
        """Open what a report reads; `metering/reports/<name>.sql` can then be asked."""
        if name not in reports():
            known = sorted(reports().keys() - GIVEN.keys())
            remedy = f"{meant(name, known)}The reports are: {', '.join(known)}."
            raise UsageError(f"There is no report {name!r}.", remedy=remedy)
        if name in GIVEN:
            raise UsageError(f"{name!r} needs more than a filter.", remedy=f"Run `{GIVEN[name]}`.")
        if name in _OF_USAGE:
            _OF_USAGE[name](self)
        elif name in _OF_BILLS:
            _OF_BILLS[name](self, name)
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

    def ask_months(self, first: Month | None, last: Month | None = None) -> None:
        """Filter what is asked next by months."""
        zone, wanted = self.home.config.billing.zone, self.wanted
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

    def ledger(self, *queries: str, conditions: Mapping[str, str] = MappingProxyType({})) -> None:
        """The book's tables, all of them or what some queries read of them; once all are there, as they stood then."""
        if "ledger" in self._opened:
            return
        if not queries:
            self._opened.add("ledger")
            attach_ledger(self.con, self.home.book)
            return
        known = {name: found.names for name, found in tables().items()}
        wanted: dict[str, set[str]] = {}
        for query in queries:
            for name, columns in reads(query, known, "reports", "usage").items():
                if tables()[name].stored == "ledger":
                    wanted.setdefault(name, set()).update(columns)
        there = self._columns
        lacking = {name: columns | there.get(name, set()) for name, columns in wanted.items()}
        lacking = {name: columns for name, columns in lacking.items() if columns != there.get(name)}
        attach_ledger(self.con, self.home.book, lacking, conditions)
        there.update({name: columns for name, columns in lacking.items() if name not in conditions})

    def of_invoices(self, name: str) -> None:
        """What the book has of the invoices asked for, for a report about invoices."""
        wanted = self.wanted
        conditions: dict[str, str] = {}
        if wanted.month_from or wanted.month_to or wanted.account_id is not None:
            account = "'" + (wanted.account_id or "").replace("'", "''") + "'"
            its = sql("reports", "asked_invoices").format(
                first=wanted.month_from or "",
                last=wanted.month_to or "9999-12",
                account="account_id" if wanted.account_id is None else account,
            )
            for table in tables().values():
                if "invoice" in table.names:
                    conditions[table.name] = f"invoice IN ({its})"
            conditions["transactions"] = (
                f'"transaction" IN (SELECT "transaction" FROM entries WHERE invoice IN ({its}))'
            )
        self.ledger(sql("reports", name), conditions=conditions)

    def allocations(self, name: str) -> None:
        """The shares of the snapshots in issued lines, and what the report reads of the ledger.

        The lines come from the files of the closes too: to read them from the ledger took longer than the question.
        """
        self.ledger(_CLOSED)
        if self._first("allocations"):
            months = [row[0] for row in self.con.execute(_CLOSED).fetchall()]
            if name == "allocations":
                months = [month for month in months if self._is_asked(month)]
            self._of_closes("allocations", months)
            if "ledger" not in self._opened:
                self._of_closes("invoice_lines", months)
                self._columns["invoice_lines"] = set(tables()["invoice_lines"].names)
        self.ledger(sql("reports", name))

    def _of_closes(self, name: str, months: Iterable[str]) -> None:
        """The rows of one kind of file of some closes; what is missing is made again for this question."""
        paths = {month: self.home.lake.files.find(path_of(month, name)) for month in months}
        present = [path for path in paths.values() if path]
        if present and len(present) == len(paths):
            give_files(self.con, name, present)
            return
        made = [made_again(self.home, month, [name])[name] for month, path in paths.items() if path is None]
        there = [pq.read_table(path) for path in present]
        self.con.register(name, pa.concat_tables([empty_table(name), *there, *made]))

    def _is_asked(self, month: str) -> bool:
        wanted = self.wanted
        return str(wanted.month_from or "") <= month <= str(wanted.month_to or "9999-12")

    def lifespans(self, *, keep: bool = True) -> None:
        """The relations of usage, with time standing at now; lifespans are computed once, or for each question."""
        if not self._first("usage"):
            return
        self._first("events")
        home, wanted = self.home, self.wanted
        zone, through = home.config.billing.zone, self._checked()
        # Also what fails while it is opened may be the state's.
        self.is_kept = not wanted.all_events
        self.is_kept = open_usage(
            self.con,
            home.lake,
            home.now,
            zone,
            through,
            anomalies=True,
            all_events=wanted.all_events,
            keep_lifespans=keep,
        )

    def events(self) -> None:
        """The events of the lake, and its quarantine."""
        if self._first("events"):
            self.home.lake.attach(self.con, self._checked())

    def _checked(self) -> int | None:
        """The batch asked for; UsageError if there is none of that number."""
        last = self.home.lake.manifest().last_batch
        if self.wanted.as_of is not None and not 0 <= self.wanted.as_of <= last:
            raise UsageError(
                f"--as-of {self.wanted.as_of}: there is no such batch.", remedy=f"Name one from 0 to {last}."
            )
        return self.wanted.as_of

    def usage(self, since: Month | None = None, *, alive_after: int | None = None) -> None:
        """Usage by month, from a month on; of snapshots that were alive after an instant."""
        self.lifespans(keep=self._several or not self._begins)
        self._use_months(self.months(since), alive_after=alive_after)

    def _use_months(self, months: list[Month], *, alive_after: int | None = None) -> None:
        zone = self.home.config.billing.zone
        meter.set_periods(self.con, meter.month_periods(months, zone), alive_after=alive_after)

    def usage_by_snapshot(self) -> None:
        """Usage by month, for a question that needs lifespans twice."""
        self.usage()
        if self._begins and not self._several:
            meter.compute_lifespans(self.con)

    def usage_by_day(self, since: Month | None = None) -> None:
        """Usage by day."""
        self.lifespans(keep=self._several or not self._begins)
        days = meter.day_periods(self.months(since), self.home.config.billing.zone)
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

    @property
    def _begins(self) -> bool:
        """Whether the filter says since when: then nobody looks for the first usage, or for what had ended before."""
        return self.wanted.month_from is not None and self.wanted.month_from.year >= EARLIEST

    def months(self, since: Month | None = None) -> list[Month]:
        """The months asked for, as far as there is usage up to now; from a month on."""
        zone = self.home.config.billing.zone
        begin = since or self.wanted.month_from
        if begin is None or begin.year < EARLIEST:
            first = meter.first_month(self.con, zone)
            if first is None:
                return []
            begin = max(first, begin or first)
        current = Month.of(self.home.now, zone)
        return meter.months_between(begin, min(self.wanted.month_to or current, current))

    def anomalies(self) -> None:
        """What a person should know of."""
        self.lifespans()
        self.ledger(_CURRENCIES, _RESOLVED)
        home, con = self.home, self.con
        known = dict(con.execute(compose(con, _CURRENCIES, "reports")).fetchall())
        resolved = [row[0] for row in con.execute(_RESOLVED).fetchall()]
        months = billed_months(home, con)
        self.unbillable = unbillable(home, con, known, months)
        meter.set_periods(con, meter.month_periods(months, home.config.billing.zone))
        found = meter.anomalies(con, accounts=known, unpriced=gaps(self.unbillable), resolved=resolved)
        con.register("found_anomalies", found)

    def billed(self, name: str) -> None:
        """What was invoiced."""
        if self.wanted.as_of is not None:
            raise UsageError(
                "--billed is what was invoiced, --as-of asks for what was known.", remedy="Leave one of them out."
            )
        self.allocations(name)

    def billed_and_used(self, name: str) -> None:
        """What was invoiced beside what is known now, also of snapshots that have turned out to end before."""
        self.billed(name)
        self.lifespans()
        self._use_months(self.closed_months())
        table(self.con, "billed_shares", compose(self.con, sql("reports", "billed_shares"), "reports", "usage"))
        # Those are rare: only for them the lifespans of all time are looked through.
        if count(self.con, every("billed_shares", cut="used_id IS NULL")):
            self._use_months(self.closed_months(), alive_after=meter.EVER)

    def difference(self, name: str) -> None:
        """What was invoiced beside what is known now, in sums."""
        self.ledger(sql("reports", name), _CLOSED)
        self.lifespans(keep=self._several)
        self._use_months(self.closed_months())

    def closed_months(self) -> list[Month]:
        """The closed months that are asked for."""
        return [Month.parse(month) for (month,) in self.con.execute(_CLOSED).fetchall() if self._is_asked(month)]

    def quarantine(self) -> None:
        """Bad lines, and which of them were put aside."""
        self.events()
        self.ledger(_RESOLVED)

    def forecast(self) -> None:
        """What the months that are not closed will come to."""
        from metering.reports.forecast import forecast

        wanted = self.wanted
        self.lifespans()
        rows = forecast(self.home, self.con, wanted.month_from, wanted.month_to, all_events=wanted.all_events)
        self.con.register("forecast_rows", rows)

    def idle(self) -> None:
        """What snapshots have cost and will cost."""
        from metering.reports.idle import give_costs

        self.lifespans(keep=self._several)
        self.ledger(sql("reports", "idle"))
        give_costs(self.home, self.con, keep_lifespans=not self._several)


_OF_USAGE: dict[str, Callable[..., None]] = {
    "usage": Reader.usage,
    "usage-by-project": Reader.usage,
    "usage-by-snapshot": Reader.usage_by_snapshot,
    "usage-by-day": Reader.usage_by_day,
    "anomalies": Reader.anomalies,
    "quarantine": Reader.quarantine,
    "snapshot-events": Reader.events,
    "forecast": Reader.forecast,
    "idle": Reader.idle,
}
"""What opens a report about events and usage."""
_OF_BILLS: dict[str, Callable[[Reader, str], None]] = {
    **dict.fromkeys(("invoices", "invoice-lines", "payments", "receivables", "revenue"), Reader.of_invoices),
    **dict.fromkeys(("allocations", "snapshot-lines"), Reader.allocations),
    **dict.fromkeys(("billed-usage", "billed-usage-by-project"), Reader.billed),
    "billed-usage-by-snapshot": Reader.billed_and_used,
    "usage-difference": Reader.difference,
}
"""What opens a report about what was billed; all others read the ledger as it is."""
