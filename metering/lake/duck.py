"""The DuckDB connection on which relations are defined, and queries that are composed of them."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import duckdb
import pyarrow as pa
from numpy.typing import NDArray

from metering.lake.elsewhere import bring
from metering.sql import has_sql, sql

_engines: dict[tuple[int, str | None, bool], duckdb.DuckDBPyConnection] = {}
"""By process: an engine's threads do not live on in a forked one."""
_opening = Lock()


def connect(
    memory_limit: str | None = None, spill: Path | None = None, *, ordered: bool = False
) -> duckdb.DuckDBPyConnection:
    """An in-memory connection in UTC that never reaches for the network; `ordered` keeps rows as they were given.

    Connections of the same kind share one engine, which takes 30 ms to start and holds the memory limit for all
    of them: so everything that is defined on one must be temporary. One with a folder to spill to has its own.
    """
    if spill:
        con = _engine(memory_limit, ordered, spill)
    else:
        with _opening:
            kind = (os.getpid(), memory_limit, ordered)
            if kind not in _engines:
                _engines[kind] = _engine(memory_limit, ordered)
            con = _engines[kind].cursor()
    con.execute("SET TimeZone = 'UTC'")
    return con


def _engine(memory_limit: str | None, ordered: bool, spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "preserve_insertion_order": ordered,
    }
    if ordered:
        # Several threads mix up the batches of an Arrow table, whatever is said of its order.
        settings["threads"] = 1
    if memory_limit:
        settings["memory_limit"] = memory_limit
    if spill:
        settings["temp_directory"] = str(spill)
    return duckdb.connect(":memory:", config=settings)


def give_files(
    con: duckdb.DuckDBPyConnection, name: str, paths: Iterable[Path | str], cut: str | None = None, columns: str = "*"
) -> None:
    """Define the rows of some Parquet files, or those of them for which a condition holds."""
    listed = ", ".join(f"'{text}'" for text in (str(path).replace("'", "''") for path in paths))
    view(con, name, every(f"read_parquet([{listed}])", columns, cut=cut or ""))


def has(con: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Whether a connection has a relation of this name: a fraction of what it takes to list all of them."""
    try:
        con.execute(every(name) + " LIMIT 0")
    except duckdb.CatalogException:
        return False
    return True


def answer(con: duckdb.DuckDBPyConnection, query: str, *, few: bool = True) -> pa.Table:
    """The rows of a query. One with many of them is asked as a relation, which is bound twice, but not copied.

    Over FEW events no answer has many.
    """
    if not few and not has(con, FEW):
        return con.sql(query).to_arrow_table()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Arrow output on a DB-API result")
        return con.execute(query).to_arrow_table()


def view(con: duckdb.DuckDBPyConnection, name: str, query: str) -> None:
    """Define a relation that is computed where it is read."""
    con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {query}")


def table(con: duckdb.DuckDBPyConnection, name: str, query: str, values: Sequence[object] = ()) -> None:
    """Compute a relation now, once for all that read it; `values` are those of the query's parameters."""
    con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {query}", values)


def add(con: duckdb.DuckDBPyConnection, name: str, query: str) -> None:
    """Add rows to a relation that was computed."""
    con.execute(f"INSERT INTO {name} {query}")


def every(relation: str, columns: str = "*", *, order: str = "", cut: str = "") -> str:
    """The query for a relation: all of it, or some columns, sorted, or those rows for which a condition holds."""
    where, by = (f" WHERE {cut}" if cut else ""), (f" ORDER BY {order}" if order else "")
    return f"SELECT {columns} FROM {relation}{where}{by}"


def give(con: duckdb.DuckDBPyConnection, name: str, rows: pa.Table | Mapping[str, NDArray[Any]]) -> None:
    """Hand in a relation; as NumPy's columns where they are at hand, because Arrow loads pandas to make a table."""
    con.register("given", rows if isinstance(rows, pa.Table) else dict(rows))
    table(con, name, every("given"))
    con.unregister("given")


def count(con: duckdb.DuckDBPyConnection, query: str) -> int:
    """How many rows a query has."""
    ((rows,),) = con.execute(f"SELECT count(*) FROM ({query})").fetchall()
    return int(rows)


def copy(con: duckdb.DuckDBPyConnection, query: str, path: Path, form: str) -> int:
    """Write the rows of a query to a Parquet file; how many there are."""
    target = str(path).replace("'", "''")
    ((rows,),) = con.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet, {form})").fetchall()
    return int(rows)


def drop(con: duckdb.DuckDBPyConnection, name: str) -> None:
    """Forget a relation that was computed."""
    con.execute(f"DROP TABLE IF EXISTS temp.{name}")


def define(con: duckdb.DuckDBPyConnection, room: str, *names: str, kind: Literal["VIEW", "TABLE"] = "VIEW") -> None:
    """Define relations from `metering/<room>/<name>.sql`, each as a temporary view or table of that name."""
    for name in names:
        (view if kind == "VIEW" else table)(con, name, sql(room, name))


def compose(con: duckdb.DuckDBPyConnection, query: str, *rooms: str) -> str:
    """A query together with the relations that it reads, each from `metering/<room>/<name>.sql` of the first such room.

    What the connection has under that name (a kept table, a relation that was handed in) is taken as it is. Only
    what a question needs is bound, which on small data is most of its time. A relation with the comment ONCE is
    computed once however many others read it; the others are computed where they are read, which costs no memory, or,
    over FEW events, as the engine likes, which takes it less time to plan. Where another engine computes a room, what
    the query reads of it is brought from there.
    """
    known = {name for (name,) in con.execute(sql("lake", "present")).fetchall()}
    found = gather(query, rooms, known, lambda room, name: bring(con, room, name))
    if not found:
        return query
    others = "" if FEW in known else "NOT MATERIALIZED"
    kept = {name: "MATERIALIZED" if f"\n{ONCE}\n" in text else others for name, text in found.items()}
    parts = ",\n".join(f"{name} AS {kept[name]} (\n{text})" for name, text in found.items())
    body = _COMMENT.sub("", query).lstrip()
    if body.startswith("WITH "):
        return f"WITH {parts},\n{body.removeprefix('WITH ')}"
    return f"WITH {parts}\n{body}"


FEW = "few_events"
"""A relation that a connection has where its events fit into memory easily."""
ONCE = "-- Computed once."
"""Stands in relations that are small beside what they are made of."""


def reads(query: str, given: Mapping[str, Collection[str]], *rooms: str) -> dict[str, set[str]]:
    """Which of the given relations a query reads, by itself or through those of the rooms.

    Each comes with those of its columns that can be needed: the ones that are named anywhere, or all where a star is.
    """
    found = gather(query, rooms, given)
    texts = [_COMMENT.sub("", text) for text in (query, *found.values())]
    words = {word for text in texts for word in _WORD.findall(text)}
    columns: dict[str, set[str]] = {}
    for text in texts:
        for name in given.keys() & set(_READ.findall(text)):
            needed = given[name] if _STAR.search(text) else words.intersection(given[name])
            columns.setdefault(name, set()).update(needed)
    return columns


_COMMENT = re.compile(r"--[^\n]*")
_LOCAL = re.compile(r"\b(\w+)\s+AS\s+(?:(?:NOT\s+)?MATERIALIZED\s+)?\(")
_READ = re.compile(r"\b(?:FROM|JOIN)\s+(\w+)")
_WORD = re.compile(r"\w+")
_STAR = re.compile(r"(?:\bSELECT|\bDISTINCT|,|\.)\s*\*|^FROM\b(?!.*\bSELECT\b)", re.DOTALL)
"""Every column: `*`, `t.*`, or DuckDB's `FROM t` alone."""


def gather(
    query: str,
    rooms: tuple[str, ...],
    known: Collection[str],
    brought: Callable[[str, str], bool] = lambda room, name: False,
) -> dict[str, str]:
    """The relations that a query reads and that are not known, by name, those that they read first.

    `brought` is asked for each whether it can be had, so that nothing it reads is needed.
    """
    found: dict[str, str] = {}
    _collect(query, rooms, set(known), found, brought)
    return found


def _collect(
    query: str, rooms: tuple[str, ...], known: set[str], found: dict[str, str], brought: Callable[[str, str], bool]
) -> None:
    text = _COMMENT.sub("", query)
    local = set(_LOCAL.findall(text))
    for name in _READ.findall(text):
        if name in known or name in found or name in local:
            continue
        room = next((room for room in rooms if has_sql(room, name)), None)
        if room is None:
            continue
        if brought(room, name):
            known.add(name)
            continue
        text = sql(room, name)
        _collect(text, rooms, known, found, brought)
        found[name] = text
