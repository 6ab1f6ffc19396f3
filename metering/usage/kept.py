"""Lifespans that are read from files of a maintained state instead of being computed from events.

Then `events` are only those of snapshots that can still change.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from metering.lake import give_files, has, table, view
from metering.sql import sql

if TYPE_CHECKING:
    import duckdb


class Kept(NamedTuple):
    """A file of kept rows of a relation; where all are of snapshots that have ended, until when they had."""

    part: str
    path: str
    rows: int
    ended_until: int | None


def give_kept(con: duckdb.DuckDBPyConnection, files: Iterable[Kept]) -> None:
    """Take lifespans, size changes and lasting anomalies from files, without what the relation `superseded` names.

    `disputed` names what refused repeats are about.
    """
    columns = zip(*files, strict=True)
    table(con, "kept_files", sql("usage", "kept_files"), [list(column) for column in columns])
    _read(con, "lifespans", "stored_of_all_time")
    _read(con, "anomalies", "stored_anomalies")
    _define(con, "disputed_lifespans", "kept_disputed_lifespans")
    _define(con, "anomalies_for_ever", "kept_anomalies")


def is_kept(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether this connection takes lifespans from files."""
    return has(con, "kept_files")


def narrow(con: duckdb.DuckDBPyConnection, from_us: int) -> None:
    """Leave out what had ended by an instant, whole files where possible."""
    _read(con, "lifespans", "stored_lifespans", from_us)
    _read(con, "size_changes", "stored_size_changes", from_us)
    _define(con, "lifespans", "kept_lifespans")
    _define(con, "size_changes", "kept_size_changes")


def _read(con: duckdb.DuckDBPyConnection, part: str, name: str, from_us: int | None = None) -> None:
    paths = [path for (path,) in con.execute(sql("usage", "kept_paths"), {"part": part, "from_us": from_us}).fetchall()]
    cut = f"ended_at IS NULL OR ended_at > {from_us}" if part == "lifespans" and from_us is not None else None
    give_files(con, name, paths, cut)


def _define(con: duckdb.DuckDBPyConnection, name: str, text: str) -> None:
    view(con, name, sql("usage", text))
