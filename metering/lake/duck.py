"""The DuckDB connection on which relations are defined, and queries that are composed of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import duckdb

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
    what a question needs is bound, which on small data is most of its time. A relation with the comment ONCE is
    computed once however many others read it; the others are computed where they are read, which costs no memory.
    """
    known = {name for (name,) in con.execute(sql("lake", "present")).fetchall()}
    found: dict[str, str] = {}
    _collect(query, rooms, known, found)
    if not found:
        return query
    parts = ",\n".join(f"{name} AS {_kept(text)} (\n{text})" for name, text in found.items())
    body = _COMMENT.sub("", query).lstrip()
    if body.startswith("WITH "):
        return f"WITH {parts},\n{body.removeprefix('WITH ')}"
    return f"WITH {parts}\n{body}"


ONCE = "-- Computed once."
"""Stands in relations that are small beside what they are made of."""


def _kept(text: str) -> str:
    return "MATERIALIZED" if f"\n{ONCE}\n" in text else "NOT MATERIALIZED"


_COMMENT = re.compile(r"--[^\n]*")
_LOCAL = re.compile(r"\b(\w+)\s+AS\s+(?:(?:NOT\s+)?MATERIALIZED\s+)?\(")
_READ = re.compile(r"\b(?:FROM|JOIN)\s+(\w+)")


def _collect(query: str, rooms: tuple[str, ...], known: set[str], found: dict[str, str]) -> None:
    """Gather the relations that a query reads, those that they read first."""
    text = _COMMENT.sub("", query)
    local = set(_LOCAL.findall(text))
    for name in _READ.findall(text):
        if name in known or name in found or name in local:
            continue
        room = next((room for room in rooms if has_sql(room, name)), None)
        if room is not None:
            text = sql(room, name)
            _collect(text, rooms, known, found)
            found[name] = text
