"""Queries that are composed of the relations they read, each the text of a `.sql` file."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Literal

import duckdb

from metering.lake.duck import FEW, table, view
from metering.lake.elsewhere import bring
from metering.sql import has_sql, sql


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
