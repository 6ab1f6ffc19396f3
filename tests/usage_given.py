"""Given events: as short lines for people, as Arrow for the engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from reference import Event

from metering.events.keys import LAKE_KEYS, lake_keys
from metering.events.merging import placed
from metering.lake import answer, compose, connect
from metering.lake.duck import FEW
from metering.schema import arrow_schema
from metering.usage import meter
from metering.values import Month, to_instant

TYPES = {
    **{name: f"snapshot.{name}" for name in ("creating", "ready", "resized", "failed", "deleted")},
    "vm-deleted": "vm.deleted",
    "retract": "event.retracted",
}


def instant(text: str) -> int:
    """`2026-05-03` or `2026-05-03T10:00:00.25`, in UTC unless it says otherwise."""
    moment = datetime.fromisoformat(text)
    return to_instant(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def parse_events(text: str) -> list[Event]:
    """One event a line: `TIME TYPE SUBJECT [field=value …]`; ids count from e1, ready has defaults."""
    return [_parse(line, number) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _parse(line: str, number: int) -> Event:
    time, kind, subject, *rest = line.split()
    said: dict[str, Any] = dict(word.split("=", 1) for word in rest)
    for name in ("size_bytes", "batch"):
        if name in said:
            said[name] = int(said[name])
    if kind == "ready":
        defaults = {"account_id": "acc", "project_id": "prj", "region": "reg", "resource_type": "vm"}
        said = {**defaults, "resource_id": "vm-1", "size_bytes": 1, **said}
    said = {"source": "/s", "id": f"e{number}", **said}
    return Event(**said, type=TYPES[kind], subject=subject, time=instant(time))


def events_table(events: Iterable[Event]) -> pa.Table:
    """The relation `events` of these events, in this order."""
    rows = [{**asdict(event), "ingested_at": event.time, "seq": seq} for seq, event in enumerate(events, 1)]
    schema = arrow_schema("events")
    table = pa.Table.from_pylist(rows, pa.schema([field.with_nullable(True) for field in schema]))
    for name, key in lake_keys(table).items():
        table = table.set_column(schema.get_field_index(name), name, key)
    return table.cast(schema)


UNKEYED = [name for name in (*LAKE_KEYS, "place") if not name.startswith("subject_")]
"""The columns that event files of the first layout do not have."""


def laid_out(events: pa.Table) -> pa.Table:
    """Events as a batch holds them, with their places."""
    by_type = events.sort_by([("type", "ascending"), ("time", "ascending")])
    tables = [placed(by_type.filter(pc.equal(by_type["type"], kind))) for kind in pc.unique(by_type["type"])]
    table = pa.concat_tables(tables)
    column = table.schema.get_field_index("place")
    return table.set_column(column, table.schema.field(column), pa.array(range(1, table.num_rows + 1), pa.int64()))


def quarantine_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """The relation `quarantine` of these rows."""
    defaults = {"batch": 1, "ingested_at": 0, "file": "f", "line": 1, "message": "m", "raw": b"{}"}
    return pa.Table.from_pylist([{**defaults, **row} for row in rows], arrow_schema("quarantine"))


@cache
def _connection(keep_lifespans: bool) -> duckdb.DuckDBPyConnection:
    """One for each way that questions are put: as over few events, and as over many."""
    con = connect()
    con.execute("SET threads = 1")
    if keep_lifespans:
        con.execute(f"CREATE TEMP VIEW {FEW} AS SELECT 1")
    return con


def opened(
    events: Iterable[Event],
    now: int,
    zone: str = "UTC",
    periods: Iterable[meter.Period] = (),
    quarantine: Sequence[dict[str, Any]] = (),
    keep_lifespans: bool = True,
) -> duckdb.DuckDBPyConnection:
    """A connection on which this room's relations are open over the events; it is used again and again."""
    con = _connection(keep_lifespans)
    con.register("events", events_table(events))
    con.register("quarantine", quarantine_table(quarantine))
    meter.open_relations(con, now, ZoneInfo(zone), keep_lifespans=keep_lifespans)
    meter.set_periods(con, periods)
    return con


def months(first: str, last: str, zone: str = "UTC") -> list[meter.Period]:
    """Each month from the first to the last as one period."""
    return meter.month_periods(meter.months_between(Month.parse(first), Month.parse(last)), ZoneInfo(zone))


def rows(table: pa.Table, *columns: str) -> list[tuple[Any, ...]]:
    """Some columns of a table, row by row."""
    return list(zip(*(table.column(name).to_pylist() for name in columns), strict=True))


def relation(con: duckdb.DuckDBPyConnection, name: str) -> pa.Table:
    """All rows of a relation of this room."""
    return answer(con, compose(con, f"SELECT * FROM {name}", "usage"))
