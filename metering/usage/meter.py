"""The relations of this room, opened on a connection that knows the events.

`open_relations` first, then `set_periods`, then any question. A connection answers for one set of events:
another `Lake.attach(con, through=…)` takes another connection. Every answer depends on the set of events
only, never on the order of their arrival.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import tzinfo
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from metering.errors import MeteringError
from metering.lake import answer, compose, drop, every, give, give_rows, has, table
from metering.lake.elsewhere import keep, tell, untell
from metering.sql import sql
from metering.usage.kept import is_kept, narrow
from metering.usage.zone import offsets
from metering.values import Month

if TYPE_CHECKING:
    import duckdb

_GIVEN = {
    "scope": {"now_us": "BIGINT"},
    "zone_offsets": {"since_us": "BIGINT", "until_us": "BIGINT", "offset_us": "BIGINT"},
    "horizon": {"from_us": "BIGINT"},
    "periods": {"month": "VARCHAR", "period_start": "BIGINT", "period_end": "BIGINT"},
    "accounts": {"account_id": "VARCHAR"},
    "strangers": {"account_id": "VARCHAR"},
    "unpriced": {
        "month": "VARCHAR",
        "account_id": "VARCHAR",
        "sku": "VARCHAR",
        "region": "VARCHAR",
        "period_start": "BIGINT",
        "period_end": "BIGINT",
    },
    "resolved_lines": {"id": "VARCHAR"},
    "chosen_accounts": {"account_id": "VARCHAR"},
    "chosen_pairs": {"month": "VARCHAR", "account_id": "VARCHAR"},
    "chosen_snapshots": {"snapshot_id": "VARCHAR"},
}
"""The columns of the small relations that are handed in."""


_SUMS = {"byte_micros", "remaining"}
EVER = -(2**63) + 1
"""An instant before all others: nothing had ended by then."""


class Period(NamedTuple):
    """A half-open part of a calendar month: all of it, a day, or the time between two price changes."""

    month: str
    period_start: int
    period_end: int


class Unpriced(NamedTuple):
    """A period in which an account has no price for a SKU in a region."""

    month: str
    account_id: str
    sku: str
    region: str
    period_start: int
    period_end: int


def open_relations(
    con: duckdb.DuckDBPyConnection,
    now: int,
    zone: tzinfo,
    *,
    keep_lifespans: bool = False,
    few: str | None = None,
    remember: bool = True,
) -> None:
    """Make this room's relations ready over `events`.

    With `keep_lifespans` they are computed once and kept, which pays where a run asks several questions. Of `few`
    events, the digest of which is given, they always are: for all connections of this process, or, unless they are to
    be remembered, for this one alone.
    """
    set_now(con, now)
    _give(con, "zone_offsets", offsets(zone, now))
    set_periods(con, ())
    if few is not None:
        for name in _OF_FEW:
            _compute_of_few(con, name, few if remember else None)
    elif keep_lifespans:
        compute_lifespans(con)


_OF_FEW = ("lifespans", "size_changes")
_MOST_REMEMBERED = 16
_remembered: dict[tuple[str, str], pa.Table] = {}
"""Relations over few events, by the events' digest and their name: to plan their query takes longer than all else."""


def _compute_of_few(con: duckdb.DuckDBPyConnection, name: str, events: str | None) -> None:
    if events is None:
        table(con, name, compose(con, sql("usage", name), "usage"))
        return
    rows = _remembered.get((events, name))
    if rows is None:
        if len(_remembered) >= _MOST_REMEMBERED:
            _remembered.clear()
        rows = _remembered[events, name] = answer(con, compose(con, sql("usage", name), "usage"))
    give(con, name, rows)


def compute_lifespans(con: duckdb.DuckDBPyConnection) -> None:
    """Compute the lifespans once for all questions to come, as far back as the present periods ask for them.

    Those that come from files are read where they are needed, and those of few events are there.
    """
    if not keep(con, "lifespans") and not has(con, "size_changes"):
        table(con, "lifespans", compose(con, sql("usage", "lifespans"), "usage"))


def set_now(con: duckdb.DuckDBPyConnection, now: int) -> None:
    """Set the instant up to which usage runs."""
    _give(con, "scope", [(now,)])


def set_periods(con: duckdb.DuckDBPyConnection, periods: Iterable[Period], *, alive_after: int | None = None) -> None:
    """Set the periods that usage is cut into; they should not overlap.

    Snapshots that had ended by the first period's start are left out; with `alive_after`, those that had by then.
    """
    values = list(periods)
    _give(con, "periods", values)
    if is_kept(con):
        first = min((start for _, start, _ in values), default=EVER)
        narrow(con, first if alive_after is None else alive_after)
    elif alive_after is not None:
        _give(con, "horizon", [(alive_after,)])
    else:
        drop(con, "horizon")


def months_between(first: Month, last: Month) -> list[Month]:
    """Every month from the first to the last."""
    count = (last.year - first.year) * 12 + last.number - first.number + 1
    return [first.plus(offset) for offset in range(count)]


def month_periods(months: Iterable[Month], zone: tzinfo) -> list[Period]:
    """Each month as one period."""
    return [Period(str(month), *month.bounds(zone)) for month in months]


def day_periods(months: Iterable[Month], zone: tzinfo) -> dict[str, Period]:
    """Each calendar day of the months as one period, by its date."""
    return {
        day: Period(str(month), start, end) for month in months for day, start, end in month.days(zone) if start < end
    }


def account_usage(con: duckdb.DuckDBPyConnection, pairs: Iterable[tuple[str, str]] | None = None) -> pa.Table:
    """Usage per account × SKU × region × period, sorted; of all, or of the given months and accounts."""
    sort = ("period_start", "account_id", "sku", "region")
    if pairs is None:
        return _ask(con, "account_usage", *sort)
    _give(con, "chosen_pairs", pairs)
    return _ask(con, "chosen_usage", *sort)


def project_usage(con: duckdb.DuckDBPyConnection) -> pa.Table:
    """Usage per account × project × period, sorted."""
    return _ask(con, "project_usage", "period_start", "account_id", "project_id")


def usage_by_snapshot(con: duckdb.DuckDBPyConnection) -> pa.Table:
    """Usage per snapshot and period with name, last size, ready and end, sorted."""
    return _ask(con, "usage_by_snapshot", "period_start", "account_id", "project_id", "region", "sku", "snapshot_id")


def snapshot_usage(con: duckdb.DuckDBPyConnection, accounts: Iterable[str] | None = None) -> pa.Table:
    """Usage per snapshot and period, of all accounts or of the given ones, sorted."""
    sort = ("period_start", "account_id", "project_id", "snapshot_id")
    if accounts is None:
        return _ask(con, "snapshot_usage", *sort)
    _give(con, "chosen_accounts", ((account,) for account in accounts))
    return _ask(con, "chosen_account_usage", *sort)


def stretch_usage(con: duckdb.DuckDBPyConnection, snapshots: Iterable[str]) -> pa.Table:
    """The stretches of the given snapshots, cut to the periods and to now, sorted."""
    _give(con, "chosen_snapshots", ((snapshot,) for snapshot in snapshots))
    return _ask(con, "chosen_stretch_usage", "snapshot_id", "used_from")


def expected_usage(con: duckdb.DuckDBPyConnection) -> pa.Table:
    """Usage up to now, and what is alive would still use (`remaining`), per account × SKU × region × period, sorted."""
    return _ask(con, "expected_usage", "period_start", "account_id", "sku", "region")


def used_keys(con: duckdb.DuckDBPyConnection) -> list[tuple[str, str, str]]:
    """Each account × SKU × region that can have usage in the periods; also some that have none."""
    return con.execute(compose(con, sql("usage", "used_keys"), "usage")).fetchall()


def alive(con: duckdb.DuckDBPyConnection) -> pa.Table:
    """The snapshots that are alive now, sorted."""
    return _ask(con, "alive", "account_id", "project_id", "snapshot_id")


def first_month(con: duckdb.DuckDBPyConnection, zone: tzinfo) -> Month | None:
    """The month in which the first usage up to now lies; None where there is none."""
    with _of_all_time(con):
        name = "kept_first_usage" if is_kept(con) else "first_usage"
        ((used_from,),) = con.execute(compose(con, every(name, "used_from"), "usage")).fetchall()
    return None if used_from is None else Month.of(used_from, zone)


def anomalies(
    con: duckdb.DuckDBPyConnection,
    *,
    accounts: Iterable[str] = (),
    unpriced: Iterable[Unpriced] = (),
    resolved: Iterable[str] = (),
) -> pa.Table:
    """Every anomaly, sorted.

    `accounts` are those that exist, `unpriced` the periods without a price, and `resolved` the quarantined
    lines that a person put aside. Usage that cannot be billed is looked for in the periods set, up to now.
    """
    _give(con, "accounts", ((account,) for account in accounts))
    _give(con, "unpriced", unpriced)
    _give(con, "resolved_lines", ((line,) for line in resolved))
    strangers = con.execute(compose(con, every("unknown_accounts", "account_id"), "usage")).fetchall()
    _give(con, "strangers", strangers)
    with _of_all_time(con):
        return _ask(con, "anomalies", "kind", "snapshot_id", "occurred_at", "account_id", "detail")


def conflicting_accounts(con: duckdb.DuckDBPyConnection, *, resolved: Iterable[str]) -> pa.Table:
    """The accounts that conflicts concern, sorted, with the number of lines; `resolved` lines are left aside."""
    _give(con, "resolved_lines", ((line,) for line in resolved))
    with _of_all_time(con):
        return _ask(con, "conflicting_accounts", "account_id")


def usage_of(table: pa.Table, *keys: str) -> dict[tuple[str, ...], int]:
    """Byte-microseconds of a usage table, summed by some of its columns, as Python's integers."""
    sums: dict[tuple[str, ...], int] = {}
    columns = [table.column(key).to_pylist() for key in keys]
    usage = table.column("byte_micros").to_pylist()
    for row, value in enumerate(usage):
        key = tuple(column[row] for column in columns)
        sums[key] = sums.get(key, 0) + int(value)
    return sums


@contextmanager
def _of_all_time(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Also what ended before the periods."""
    _give(con, "horizon", [(EVER,)])
    try:
        yield
    finally:
        drop(con, "horizon")
        untell(con, "horizon")


def _give(con: duckdb.DuckDBPyConnection, name: str, rows: Iterable[tuple[object, ...]]) -> None:
    """Make a small relation of rows."""
    con.unregister(name)
    give_rows(con, name, _GIVEN[name], rows)
    tell(con, name)


def _ask(con: duckdb.DuckDBPyConnection, name: str, *sort: str) -> pa.Table:
    """All rows of a relation, sorted by columns in code-point order, empty values first."""
    import duckdb

    order = ", ".join(f"{column} NULLS FIRST" for column in sort)
    try:
        query = compose(con, every(name, order=order), "usage")
        table = answer(con, query)
        for column in _SUMS.intersection(table.column_names):
            # DuckDB 1.5 lets a sum grow a little past 38 digits.
            table.column(column).validate(full=True)
    except (duckdb.OutOfRangeException, duckdb.ConversionException, pa.ArrowInvalid) as error:
        raise too_large(error) from None
    return table


def too_large(error: Exception) -> MeteringError:
    """What an overflow of usage is told as, whichever engine met it."""
    return MeteringError(
        f"Usage is larger than 38 digits of byte-microseconds hold: {error}",
        unchanged="Nothing was computed or written.",
        remedy="Look for events with impossible sizes or times, and retract them.",
    )
