"""`reports/reports.duckdb`: every report as a table that explains itself, in one file that any DuckDB 1.x opens.

The file holds its rows, no paths, so that it can be copied anywhere. It is built beside the old one and put in its
place in one step: readers see the old file or the new one. Rows stream from the reports' SQL into the file, and from
the old file where nothing since can have changed them (`before.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import duckdb

from metering import __version__
from metering.durable import sync
from metering.errors import DONE, MeteringError
from metering.home import Home, Run
from metering.lake import (
    add,
    attached,
    comment,
    compose,
    drop,
    every,
    give_rows,
    table,
    together,
    view,
    write_table,
    write_view,
)
from metering.reports.ask import Reader, state_of, with_reader
from metering.reports.before import AS_BEFORE, Before, Note, file_before, leave_note, note_of
from metering.reports.catalog import GIVEN, Report, reports
from metering.reports.exact import exact_select
from metering.sql import sql
from metering.usage import meter

FILE = Path("reports", "reports.duckdb")
STORAGE = "v1.0.0"
"""The storage version that every DuckDB from 1.0 on reads."""

NEEDS_MORE = {*GIVEN, "snapshot-events", "snapshot-lines"}
"""Reports that answer a question about one thing; they have no table."""

KINDS = {
    "money": "DECIMAL(38, 3)",
    "gb_hours": "DECIMAL(38, 9)",
    "price": "DECIMAL(38, 12)",
    "integer": "BIGINT",
    "instant": "TIMESTAMP",
}
_NOTES = {"instant": " In UTC.", "month": " Such as 2026-05.", "day": " Such as 2026-05-01."}


def published() -> list[Report]:
    """The reports that have a table."""
    return [report for name, report in reports().items() if name not in NEEDS_MORE]


def table_name(report: Report) -> str:
    """A report's name as SQL takes it without quotes."""
    return report.name.replace("-", "_")


def publish(home: Home) -> Path:
    """Write the file anew; MeteringError if that cannot be done, and then the old file is as it was."""
    path = home.path / FILE
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(exist_ok=True)
        note = with_reader(home, lambda reader: _build(reader, part, path), several=True)
        sync(part)
        leave_note(home, note, part)
        part.replace(path)
    except (OSError, duckdb.Error) as error:
        raise MeteringError(
            f"{FILE} could not be written: {str(error).splitlines()[0]}",
            unchanged="The file of the run before is as it was, and so is all else.",
            remedy="Mend the cause; the next `metering nightly` writes it, and `metering sql` does not need it.",
        ) from error
    finally:
        _sweep(path, os.getpid())
    return path


def _sweep(path: Path, own: int) -> None:
    """Remove what is left of a publication: of this process, and of those that were killed."""
    for left in path.parent.glob(f".{path.name}.*.part*"):
        pid = int(left.name.removeprefix(f".{path.name}.").split(".")[0])
        if pid == own or not Path("/proc", str(pid)).exists():
            with suppress(OSError):
                left.unlink()


def publish_reports(home: Home, run: Run, say: Callable[[str], None]) -> int:
    """The last step of a run: publish unless the configuration forbids it, and tell what went wrong; an exit code."""
    if not home.config.reports.publish:
        return DONE
    try:
        home.check_lake()
        publish(home)
    except MeteringError as error:
        say(f"reports: {error}")
        run.say(f"reports: {error.message}")
        return error.exit_code
    return DONE


def _build(reader: Reader, part: Path, path: Path) -> Note | None:
    """Write every report into a new file; what the next run may want to know of it."""
    _sweep(path, os.getpid())
    reader.ledger(*(sql("reports", name) for name in (*(report.name for report in published()), "billed_state")))
    reader.lifespans()
    note = note_of(reader)
    with (
        attached(reader.con, part, "published", f"(STORAGE_VERSION '{STORAGE}')"),
        file_before(reader, note, path) as before,
    ):
        _build_usage(reader, before)
        for report in published():
            if report.name not in OF_USAGE:
                _create(reader, report, before)
        # Another connection, which has no relation that a view would take for the table of its name.
        with closing(reader.con.cursor()) as con, together(con):
            for report in published():
                describe(con, report, "published.")
            _stamp(con, state_of(reader.home))
    return note


OF_MONTHS = ("usage", "usage-by-project", "usage-by-snapshot")
OF_USAGE = (*OF_MONTHS, "usage-difference", "billed-usage-by-snapshot", "usage-by-day")
"""The reports that share what is computed of usage."""


def _build_usage(reader: Reader, before: Before | None) -> None:
    """The tables about usage: of the months from which on anything can have changed."""
    con, known = reader.con, reports()
    since = before.first if before else None
    reader.ask_months(since)
    reader.usage(since, alive_after=before.alive_after if before else None)
    table(con, "project_usage", compose(con, every("project_usage"), "usage"))
    for name in OF_MONTHS:
        _fill(reader, known[name], before)
    billed = before if before and before.is_billed_alike else None
    if billed is not before:
        drop(con, "project_usage")
        reader.ask_months(None)
        reader.difference("usage-difference")
    _fill(reader, known["usage-difference"], billed)
    drop(con, "project_usage")
    reader.allocations("billed-usage-by-snapshot")
    if billed is None or not billed.is_closed_before:
        # What was billed may have turned out to end before the months.
        reader.usage(since, alive_after=meter.EVER)
    view(con, "usage_by_snapshot", sql("reports", "published_sizes"))
    _fill(reader, known["billed-usage-by-snapshot"], billed)
    drop(con, "usage_by_snapshot", "VIEW")
    reader.usage_by_day(since)
    _fill(reader, known["usage-by-day"], before)
    reader.ask_months(None)


def _create(reader: Reader, report: Report, before: Before | None) -> None:
    """The table of a report; taken as it was where nothing that it is made of has changed."""
    if before and before.is_billed_alike and report.name in AS_BEFORE:
        write_table(reader.con, f"published.{table_name(report)}", every(f"before.{table_name(report)}"))
        return
    reader.prepare(report.name)
    _fill(reader, report, None)


def _fill(reader: Reader, report: Report, before: Before | None) -> None:
    """The table of a report for which the reader is prepared, behind those rows of before that still hold."""
    name = f"published.{table_name(report)}"
    rows = exact_rows(reader, report)
    if before is None:
        write_table(reader.con, name, rows)
    else:
        write_table(reader.con, name, before.rows(table_name(report)))
        add(reader.con, name, rows)


def exact_rows(reader: Reader, report: Report) -> str:
    """The SELECT that gives a report's rows with exact types; the reader is prepared for it."""
    return exact_select(report, reader.home.config.billing.gigabyte_bytes, reader.query(report.name))


def describe(con: duckdb.DuckDBPyConnection, report: Report, where: str = "") -> None:
    """Write the data dictionary onto a report's table, and make it answer to the report's own name too."""
    name = f"{where}{table_name(report)}"
    _describe_columns(con, report, name)
    comment(con, "TABLE", name, report.grain)
    if table_name(report) != report.name:
        own = f'{where}"{report.name}"'
        write_view(con, own, every(table_name(report)))
        _describe_columns(con, report, own)
        comment(con, "VIEW", own, f"The same as {table_name(report)}.")


def _describe_columns(con: duckdb.DuckDBPyConnection, report: Report, name: str) -> None:
    for column in report.columns:
        comment(con, "COLUMN", f'{name}."{column.name}"', column.doc + _NOTES.get(column.kind, ""))


def _stamp(con: duckdb.DuckDBPyConnection, state: dict[str, str]) -> None:
    give_rows(con, "about", {"what": "VARCHAR", "value": "VARCHAR"}, [("version", __version__), *state.items()])
    write_table(con, "published.about", every("about"))
    drop(con, "about")
    comment(con, "TABLE", "published.about", "When and of what this file was made.")
    comment(con, "COLUMN", "published.about.what", "What is said of the file.")
    comment(con, "COLUMN", "published.about.value", "It.")
