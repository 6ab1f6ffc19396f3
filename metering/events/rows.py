"""Parquet files of events: each row goes through the checks that a line goes through."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from metering.events.judge import EARLIEST, LATEST, Accepted, Fault
from metering.events.lines import Checked, Judged
from metering.events.sources import Source, Unreadable
from metering.events.strict_json import parse
from metering.values import format_instant, parse_instant

ROWS = 16_384
_FLAT = Accepted._fields[5:]
_MICROS = {"s": (1_000_000, 1), "ms": (1000, 1), "us": (1, 1), "ns": (1, 1000)}
# Seconds and milliseconds read as microseconds land in 1970, nanoseconds after the year 9999.
_PLAUSIBLE = parse_instant("1990-01-01T00:00:00Z")


def checked_rows(source: Source) -> Iterator[Checked]:
    """Check the rows of a Parquet file, some at a time; a row's number is its line. Raises Unreadable."""
    for batch in _batches(source):
        judged = Judged()
        texts = [canonical(row).encode("utf-8") + b"\n" for row in batch]
        for number, (row, text) in enumerate(zip(batch, texts, strict=True)):
            judged.take(number, text[:-1], partial(_event, row))
        starts = np.cumsum([0, *map(len, texts)])
        yield Checked(*judged.tables(), b"".join(texts), starts)


def _batches(source: Source) -> Iterator[list[dict[str, Any]]]:
    try:
        with pq.ParquetFile(source.path) as file:
            names = file.schema_arrow.names
            if repeated := [name for name in names if names.count(name) > 1]:
                raise Unreadable(f"two columns are named {repeated[0]}")
            for batch in file.iter_batches(batch_size=ROWS):
                yield _plain(pa.Table.from_batches([batch])).to_pylist()
    except (OSError, pa.ArrowException, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Unreadable(reason.split("\n")[0] or type(error).__name__) from error


def _plain(table: pa.Table) -> pa.Table:
    """The table with its timestamps as RFC 3339, finer digits cut; one without a zone is taken as UTC."""
    for at, column in enumerate(table.schema):
        if pa.types.is_timestamp(column.type):
            factor, divisor = _MICROS[column.type.unit]
            values = table.column(at).cast(pa.int64()).to_pylist()
            texts = [None if value is None else _instant_text(value * factor // divisor) for value in values]
            table = table.set_column(at, column.name, pa.array(texts, pa.string()))
    return table


def _instant_text(instant: int) -> str:
    return format_instant(instant) if EARLIEST <= instant <= LATEST else str(instant)


def _event(row: dict[str, Any]) -> dict[str, Any]:
    """The CloudEvents object of a row: `data` as a struct, as JSON text, or as columns of its own.

    A null in a column is an absent field, for Parquet knows no other absence.
    """
    event = {"specversion": "1.0", **{key: value for key, value in row.items() if value is not None}}
    event["time"] = _time(event.get("time"))
    data = event.get("data")
    if isinstance(data, str):
        data = parse(data.encode("utf-8"))
    elif isinstance(data, dict):
        data = {key: value for key, value in data.items() if value is not None}
    flat = {name: row[name] for name in _FLAT if row.get(name) is not None}
    if data is None and flat:
        data = {}
    if isinstance(data, dict):
        data = {**flat, **data}
        size = data.get("size_bytes")
        if isinstance(size, Decimal) and size.as_tuple().exponent == 0:
            data["size_bytes"] = int(size)
    if data is not None:
        event["data"] = data
    return event


def _time(value: Any) -> Any:
    if type(value) is not int:
        return value
    if not _PLAUSIBLE <= value <= LATEST:
        raise Fault("bad_time", f"time {value} does not count microseconds since 1970.")
    return format_instant(value)


def canonical(row: dict[str, Any]) -> str:
    """A row as JSON: keys sorted, nulls left out; the same row always gives the same text."""
    present = {key: _jsonable(value) for key, value in row.items() if value is not None}
    return json.dumps(present, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_jsonable(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int) else str(value)
