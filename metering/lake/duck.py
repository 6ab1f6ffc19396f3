"""The DuckDB connection on which relations are defined, and queries that are composed of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import duckdb

from metering.lake.elsewhere import bring
from metering.sql import has_sql, sql


def connect(memory_limit: str | None = None, spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory connection in UTC that never reaches for the network."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "preserve_insertion_order": False,
    }
    if memory_limit:
        settings["memory_limit"] = memory_limit
    if spill:
        settings["temp_directory"] = str(spill)
    con = duckdb.connect(":memory:", config=settings)
    con.execute("SET TimeZone = 'UTC'")
    return con


def define(con: duckdb.DuckDBPyConnection, room: str, *names: str, kind: Literal["VIEW", "TABLE"] = "VIEW") -> None:
    """Define relations from `metering/<room>/<name>.sql`, each as a temporary view or table of that name."""
    for name in names:
        con.execute(f"CREATE OR REPLACE TEMP {kind} {name} AS {sql(room, name)}")


def compose(con: duckdb.DuckDBPyConnection, query: str, *rooms: str) -> str:
    """A query together with the relations that it reads, each from `metering/<room>/<name>.sql` of the first such room.

    What the connection has under that name (a kept table, a relation that was handed in) is taken as it is. Only
    what a question needs is bound, which on small data is most of its time. Where another engine computes a room,
    what the query reads of it is brought from there.
    """
    known = {name for (name,) in con.execute(sql("lake", "present")).fetchall()}
    found = gather(query, rooms, known, lambda room, name: bring(con, room, name))
    if not found:
        return query
    parts = ",\n".join(f"{name} AS NOT MATERIALIZED (\n{text})" for name, text in found.items())
    body = _COMMENT.sub("", query).lstrip()
    if body.startswith("WITH "):
        return f"WITH {parts},\n{body.removeprefix('WITH ')}"
    return f"WITH {parts}\n{body}"


_COMMENT = re.compile(r"--[^\n]*")
_LOCAL = re.compile(r"\b(\w+)\s+AS\s+(?:(?:NOT\s+)?MATERIALIZED\s+)?\(")
_READ = re.compile(r"\b(?:FROM|JOIN)\s+(\w+)")


def gather(
    query: str, rooms: tuple[str, ...], known: set[str], brought: Callable[[str, str], bool] = lambda room, name: False
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
