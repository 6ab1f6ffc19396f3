"""Parquet files of events: each row goes through the checks that a line goes through.

Where the columns that an event is made of are texts, whole numbers and instants, rows become lines by columns, and
their check is that of lines. Others, and files whose `data` is JSON text, go row by row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial, reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from metering.events.arrays import column, numbers, repeated, whole
from metering.events.instants import Ints
from metering.events.judge import EARLIEST, LATEST, Accepted, Fault
from metering.events.lines import Checked, Judged, check_lines
from metering.events.sources import Source, Unreadable
from metering.events.strict_json import parse
from metering.values import format_instant, parse_instant

Members = dict[str, pa.Array]
"""By key: what stands for it in JSON objects, after a comma."""

ROWS = 16_384
"""So many are checked at once."""
_LONG = 2**20
"""Bytes of a row beyond which what is said of it depends on how it is read."""
_FLAT = Accepted._fields[5:]
_ASKED = ("specversion", *Accepted._fields)
_MICROS = {"s": (1_000_000, 1), "ms": (1000, 1), "us": (1, 1), "ns": (1, 1000)}
# Seconds and milliseconds read as microseconds land in 1970, nanoseconds after the year 9999.
_PLAUSIBLE = parse_instant("1990-01-01T00:00:00Z")
_ESCAPED = r'[\x00-\x1f"\\]'
_IS_ESCAPED = np.array([byte < 0x20 or byte in b'"\\' for byte in range(256)])
_READ = (OSError, pa.ArrowException, ValueError)
"""What reading a damaged file may raise, also where its values are looked at."""


def rows_of(source: Source) -> Iterator[pa.Table]:
    """The rows of a Parquet file, some at a time. Raises Unreadable."""
    try:
        with pq.ParquetFile(source.path) as file:
            names = file.schema_arrow.names
            if repeated := [name for name in names if names.count(name) > 1]:
                raise Unreadable(f"two columns are named {repeated[0]}")
            for batch in file.iter_batches(batch_size=ROWS):
                yield pa.Table.from_batches([batch])
    except _READ as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> Unreadable:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Unreadable(reason.split("\n")[0] or type(error).__name__)


def check_rows(rows: pa.Table) -> Checked:
    """Check rows, which are kept as JSON, see `canonical`; a row's number is its line. Raises Unreadable."""
    try:
        return _by_columns(rows) or _row_by_row(rows)
    except _READ as error:
        raise _unreadable(error) from error


def _row_by_row(rows: pa.Table) -> Checked:
    judged = Judged()
    plain = _plain(rows).to_pylist()
    texts = [canonical(row).encode("utf-8") + b"\n" for row in plain]
    for number, (row, text) in enumerate(zip(plain, texts, strict=True)):
        judged.take(number, text[:-1], partial(_event, row))
    starts = np.cumsum([0, *map(len, texts)])
    return Checked(*judged.tables(), b"".join(texts), starts)


def _plain(table: pa.Table) -> pa.Table:
    """The table with its timestamps as RFC 3339, finer digits cut; one without a zone is taken as UTC."""
    for at, each in enumerate(table.schema):
        if pa.types.is_timestamp(each.type):
            values = table.column(at).combine_chunks()
            table = table.set_column(at, each.name, _instant_texts(values.cast(pa.int64()), *_MICROS[each.type.unit]))
    return table


def _instant_texts(counts: pa.Array, factor: int, divisor: int) -> pa.Array:
    """Instants as `format_instant` writes them; beyond the years 1 to 9999 their microseconds."""
    given = numbers(pc.fill_null(counts, 0))
    first, last = EARLIEST * divisor // factor, min(LATEST * divisor // factor, 2**63 - 1)
    if len(given) and not first <= given.min() <= given.max() <= last:
        texts = [None if value is None else _instant_text(value * factor // divisor) for value in counts.to_pylist()]
        return column(texts, pa.string())
    instants = whole(given * factor // divisor, filled=counts.is_valid().to_numpy(zero_copy_only=False))
    texts = pc.strftime(instants.cast(pa.timestamp("us")), format="%Y-%m-%dT%H:%M:%S")
    short = pc.replace_substring_regex(pc.replace_substring_regex(texts, r"000$", ""), r"\.000$", "")
    return pc.binary_join_element_wise(short, "Z", "")


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
    return _dumped({key: _jsonable(value) for key, value in row.items() if value is not None})


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


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


# By columns


def _by_columns(rows: pa.Table) -> Checked | None:
    """Check rows all at once; None where that cannot tell what their values are."""
    rows.validate(full=True)
    columns = {each.name: _simple(rows.column(at).combine_chunks()) for at, each in enumerate(rows.schema)}
    if not _are_sure(columns):
        return None
    data = columns.get("data")
    inner = _members(dict(zip([each.name for each in data.type], data.flatten(), strict=True)) if data else {})
    members = _members({name: values for name, values in columns.items() if name != "data"})
    if data is not None:
        members["data"] = _with_key("data", _where(data.is_valid(), _object(inner, len(data))))
    given = _event_members(columns, members, inner)
    text, starts = _lines(_object(given, rows.num_rows))
    if np.any(np.diff(starts) > _LONG):
        return None
    checked = check_lines(text)
    if not _are_same(members, given):
        text, starts = _lines(_object(members, rows.num_rows))
    raws = [text[starts[line] : starts[line + 1] - 1] for line in numbers(checked.faults["line"]).tolist()]
    at = checked.faults.schema.get_field_index("raw")
    return Checked(checked.runs, checked.faults.set_column(at, "raw", column(raws, pa.binary())), text, starts)


def _simple(values: pa.Array) -> pa.Array:
    """Values without a dictionary, texts of one kind, and instants as texts."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        return _simple(values.dictionary_decode())
    if pa.types.is_timestamp(kind):
        return _plain(pa.table([values], [""])).column(0).combine_chunks()
    return values.cast(pa.string()) if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else values


def _are_sure(columns: Mapping[str, pa.Array]) -> bool:
    """Whether all that is looked at is text, integer or boolean: the same value in JSON."""
    kinds = {name: values.type for name, values in columns.items()}
    data = kinds.get("data", pa.struct([]))
    if not pa.types.is_struct(data) or not _is_clear(data):
        return False
    asked = [kinds[name] for name in _ASKED if name in kinds]
    asked += [each.type for each in data if each.name in _FLAT]
    sure = (pa.types.is_string, pa.types.is_integer, pa.types.is_boolean)
    return _are_plausible(columns) and all(any(is_one(kind) for is_one in sure) for kind in asked)


def _are_plausible(columns: Mapping[str, pa.Array]) -> bool:
    """Whether times, where they are integers, count microseconds."""
    if "time" not in columns or not pa.types.is_integer(columns["time"].type):
        return True
    given = numbers(pc.fill_null(columns["time"], 0))[columns["time"].is_valid().to_numpy(zero_copy_only=False)]
    return bool(np.all((given >= _PLAUSIBLE) & (given <= LATEST)))


def _is_clear(kind: pa.DataType) -> bool:
    """Whether no two fields of a struct share a name."""
    return len({each.name for each in kind}) == len(kind)


def _event_members(columns: Mapping[str, pa.Array], members: Members, inner: Members) -> Members:
    """The members of events, see `_event`, as far as they are looked at."""
    found = {name: members[name] for name in _ASKED[: -len(_FLAT)] if name in members}
    if "time" in found and pa.types.is_integer(columns["time"].type):
        found["time"] = _with_key("time", _json(_instant_texts(columns["time"].cast(pa.int64()), 1, 1)))
    version = _with_key("specversion", repeated('"1.0"', 1))[0]
    count = len(next(iter(columns.values())))
    if "specversion" not in found or found["specversion"].null_count:
        found["specversion"] = pc.coalesce(found.get("specversion", pa.nulls(count, pa.string())), version)
    flat = [name for name in _FLAT if name in members]
    if not flat and not inner.keys() - set(_FLAT):
        return {**found, "data": members["data"]} if "data" in members else found
    known = {
        name: pc.coalesce(*(each[name] for each in (inner, members) if name in each))
        for name in _FLAT
        if name in inner or name in members
    }
    held = [columns[name].is_valid() for name in (*flat, "data") if name in columns]
    return {**found, "data": _with_key("data", _where(reduce(pc.or_, held), _object(known, count)))}


def _are_same(some: Members, others: Members) -> bool:
    return some.keys() == others.keys() and all(others[name] is texts for name, texts in some.items())


def _lines(texts: pa.Array) -> tuple[bytes, Ints]:
    """Texts as lines, and where each begins, and the last ends."""
    ended = pc.binary_join_element_wise(texts, "\n", "")
    _, offsets, data = ended.buffers()
    starts = np.frombuffer(offsets, np.int32)[ended.offset : ended.offset + len(ended) + 1].astype(np.int64)
    return bytes(memoryview(data or b"")[starts[0] : starts[-1]]), starts - starts[0]


def _members(columns: Mapping[str, pa.Array]) -> Members:
    """A member of an object for each value."""
    return {name: _with_key(name, _json(values)) for name, values in columns.items()}


def _with_key(name: str, texts: pa.Array) -> pa.Array:
    joined: pa.Array = pc.binary_join_element_wise(f",{_dumped(name)}:", texts, "")
    return joined


def _where(there: pa.BooleanArray, texts: pa.Array) -> pa.Array:
    found: pa.Array = pc.if_else(there, texts, pa.nulls(len(texts), pa.string()))
    return found


def _object(members: Members, count: int) -> pa.Array:
    """Objects of members by their keys, in their order; what is null is left out."""
    some = [repeated("", count), *(members[name] for name in sorted(members))]
    joined = pc.binary_join_element_wise(*some, "", null_handling="replace", null_replacement="")
    whole: pa.Array = pc.binary_join_element_wise("{", pc.ascii_ltrim(joined, characters=","), "}", "")
    return whole


def _json(values: pa.Array) -> pa.Array:
    """Values as JSON, in the words of `canonical`."""
    kind = values.type
    found: pa.Array
    if pa.types.is_dictionary(kind):
        found = _json(values.dictionary_decode())
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        found = values.cast(pa.string())
    elif pa.types.is_struct(kind) and _is_clear(kind):
        members = _members(dict(zip([each.name for each in kind], values.flatten(), strict=True)))
        found = _where(values.is_valid(), _object(members, len(values)))
    elif not pa.types.is_string(kind):
        texts = [None if value is None else _dumped(_jsonable(value)) for value in values.to_pylist()]
        found = column(texts, pa.string())
    else:
        found = pc.binary_join_element_wise('"', values, '"', "")
        if values.buffers()[2] and _IS_ESCAPED[np.frombuffer(values.buffers()[2], np.uint8)].any():
            odd = pc.fill_null(pc.match_substring_regex(values, _ESCAPED), False)
            texts = [_dumped(text) for text in values.filter(odd).to_pylist()]
            found = pc.replace_with_mask(found, odd, column(texts, pa.string()))
    return found
