"""A chunk of lines -> accepted events and faults: a pure function, so that any process can do it.

Most lines take a short way: a typed decoder in C, and a count of keys that leaves no room for one that stands
twice or is unknown. What is unusual takes the exact way. The short way only ever accepts; every refusal is
the exact way's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Meta

from metering.events.instants import Bools, Ints, instants
from metering.events.judge import MAX_SIZE, MAX_TEXT, TYPES, Accepted, Fault, bare_type, judge
from metering.events.strict_json import MAX_DEPTH, parse

BOM = b"\xef\xbb\xbf"
CANDIDATES = pa.schema(
    [
        pa.field("line", pa.int64()),
        *(pa.field(name, pa.int64() if name in ("time", "size_bytes") else pa.string()) for name in Accepted._fields),
        pa.field("raw", pa.string()),
    ]
)
FAULTS = pa.schema(
    [
        pa.field("line", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("message", pa.string()),
        pa.field("raw", pa.binary()),
    ]
)


@dataclass
class Checked:
    """What became of a chunk: accepted events with their line numbers, and faults."""

    events: pa.Table
    faults: pa.Table
    lines: int


@dataclass
class Judged:
    """Rows on their way to a table."""

    events: list[tuple[Any, ...]] = field(default_factory=list)
    faults: list[tuple[int, str, str, bytes]] = field(default_factory=list)

    def take(self, line: int, raw: bytes, read: Callable[[], Any]) -> None:
        """Judge what `read` gives, and keep it as an event or as a fault."""
        try:
            event = judge(read())
        except Fault as fault:
            self.faults.append((line, fault.reason, fault.message, raw))
        else:
            self.events.append((line, *event, raw.decode("utf-8")))

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """The events and the faults."""
        return _table(self.events, CANDIDATES), _table(self.faults, FAULTS)


_Text = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]


class _Data(msgspec.Struct, gc=False):
    account_id: _Text | None = None
    project_id: _Text | None = None
    region: _Text | None = None
    resource_type: Literal["vm", "volume"] | None = None
    resource_id: _Text | None = None
    name: Annotated[str, Meta(max_length=MAX_TEXT)] | None = None
    size_bytes: Annotated[int, Meta(ge=0, le=MAX_SIZE)] | None = None


class _Event(msgspec.Struct, gc=False):
    specversion: Literal["1.0"]
    id: _Text
    source: _Text
    type: str
    subject: _Text
    time: str
    data: _Data | None = None


_ATTRIBUTES = 6
_NO_DATA = _Data()
_NEEDED = {
    "snapshot.ready": ("account_id", "project_id", "region", "resource_type", "resource_id", "size_bytes"),
    "snapshot.resized": ("size_bytes",),
}
_SHORT_TYPES = [kind for kind in TYPES if kind != "event.retracted"]
_decode = msgspec.json.Decoder(_Event).decode
_decode_any = msgspec.json.Decoder().decode


class _TypeNumbers(dict[str, int]):
    """The place in `_SHORT_TYPES` of each type as written; -1 for one that the exact way has to look at."""

    def __missing__(self, text: str) -> int:
        kind = bare_type(text)
        number = _SHORT_TYPES.index(kind) if kind in _SHORT_TYPES else -1
        if len(self) < 1000:
            self[text] = number
        return number


_type_numbers = _TypeNumbers()


def check_lines(chunk: bytes, first_line: int) -> Checked:
    """Check whole lines, the first of which has that number in its file."""
    lines = chunk.split(b"\n")
    if not lines[-1]:
        lines.pop()
    tables, taken = _short_way(lines, chunk)
    judged = Judged()
    for at in np.flatnonzero(~taken).tolist():
        raw = lines[at].removesuffix(b"\r")
        if raw.strip():
            judged.take(at, raw, partial(parse, raw))
    events, faults = judged.tables()
    events = pa.concat_tables([*tables, events])
    return Checked(_renumbered(events, first_line), _renumbered(faults, first_line), len(lines))


def _renumbered(table: pa.Table, first_line: int) -> pa.Table:
    return table.set_column(0, "line", pa.array(table["line"].to_numpy() + first_line, pa.int64()))


def _short_way(lines: list[bytes], chunk: bytes) -> tuple[list[pa.Table], Bools]:
    """Tables of the events that are beyond doubt, and for each line whether it is among them."""
    taken = np.zeros(len(lines), np.bool_)
    try:
        chunk.decode("utf-8")
    except UnicodeDecodeError:
        return [], taken
    usual, keys = _look(chunk, len(lines))
    rows, events = _decode_all(lines, usual)
    kinds = np.array([_type_numbers[event.type] for event in events], np.int64)
    tables = []
    for number, kind in enumerate(_SHORT_TYPES):
        chosen = np.flatnonzero(kinds == number)
        if len(chosen):
            at = rows[chosen]
            columns, good = _columns(kind, [events[row] for row in chosen.tolist()], keys[at])
            for row in np.flatnonzero(good == _MAYBE).tolist():
                good[row] = _YES if _has_no_repeats(lines[at[row]], int(keys[at[row]])) else _NO
            good = good == _YES
            at = at[good]
            raw = [lines[row].removesuffix(b"\r") for row in at.tolist()]
            tables.append(_assemble(columns, good, at, raw))
            taken[at] = True
    return tables, taken


_NO, _MAYBE, _YES = 0, 1, 2


def _look(chunk: bytes, count: int) -> tuple[Bools, Ints]:
    """Of each line: whether no byte of it asks for the exact way, and how many keys it may have.

    Such bytes are control characters, escapes, DEL, the lead byte of U+0080 to U+00BF (whose first half are
    control characters), and a space before a colon, which would hide a key from the count. Without escapes a
    quotation mark before a colon ends a key, or begins a text with a colon: so the count is never too low.
    """
    chars = np.frombuffer(chunk, np.uint8)
    ends = np.flatnonzero(chars == 0x0A)
    colons = np.flatnonzero(chars == ord(":"))
    before = chars[np.maximum(colons - 1, 0)]
    key_counts = np.diff(np.searchsorted(colons[before == ord('"')], ends), prepend=0)
    keys = np.zeros(count, np.int64)
    keys[: len(ends)] = key_counts
    if count > len(ends):
        keys[-1] = np.count_nonzero(before == ord('"')) - key_counts.sum()
    unusual = (chars < 0x20) & (chars != 0x0A)
    for byte in (b"\\", b"\x7f", b"\xc2"):
        if byte in chunk:
            unusual |= chars == byte[0]
    returns = np.flatnonzero(chars == 0x0D)
    unusual[returns[chars[np.minimum(returns + 1, len(chars) - 1)] == 0x0A]] = False
    unusual[colons[before == ord(" ")]] = True
    usual = np.ones(count, np.bool_)
    usual[np.searchsorted(ends, np.flatnonzero(unusual))] = False
    return usual, keys


def _decode_all(lines: list[bytes], usual: Bools) -> tuple[Ints, list[_Event]]:
    """The lines that decode as they should, and what they decode to."""
    rows = np.flatnonzero(usual)
    with suppress(msgspec.DecodeError, ValueError):
        return rows, [_decode(lines[row]) for row in rows.tolist()]
    events, decoded = [], []
    for row in rows.tolist():
        with suppress(msgspec.DecodeError, ValueError):
            events.append(_decode(lines[row]))
            decoded.append(row)
    return np.array(decoded, np.int64), events


def _columns(kind: str, events: list[_Event], keys: Ints) -> tuple[dict[str, pa.Array], Ints]:
    """The columns of events of one type, and whether each is good: no, if its keys are not repeated, yes."""
    times, known = instants([event.time for event in events])
    columns = {
        "source": pa.array([event.source for event in events], pa.string()),
        "id": pa.array([event.id for event in events], pa.string()),
        "type": pa.array([kind] * len(events), pa.string()),
        "subject": pa.array([event.subject for event in events], pa.string()),
        "time": pa.array(times, pa.int64()),
    }
    expected = np.full(len(events), _ATTRIBUTES)
    if needed := _NEEDED.get(kind):
        data = [event.data or _NO_DATA for event in events]
        for name in needed:
            values = [getattr(each, name) for each in data]
            columns[name] = pa.array(values, CANDIDATES.field(name).type)
            if columns[name].null_count:
                known &= columns[name].is_valid().to_numpy(zero_copy_only=False)
        expected += 1 + len(needed)
    if kind == "snapshot.ready":
        names = [each.name for each in data]
        expected += np.fromiter((name is not None for name in names), np.bool_, len(names))
        columns["name"] = pa.array([name or None for name in names], pa.string())
    return columns, np.where(known, np.where(keys == expected, _YES, _MAYBE), _NO)


def _has_no_repeats(line: bytes, keys: int) -> bool:
    """Whether a line that may have so many keys has that many different ones: so none stands twice."""
    if line.count(b"{") + line.count(b"[") > MAX_DEPTH:
        return False
    try:
        return _keys(_decode_any(line)) == keys
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False


def _keys(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_keys, value.values()))
    return sum(map(_keys, value)) if isinstance(value, list) else 0


def _assemble(columns: dict[str, pa.Array], good: Bools, at: Ints, raw: list[bytes]) -> pa.Table:
    if not good.all():
        columns = {name: column.filter(pa.array(good)) for name, column in columns.items()}
    columns["line"] = pa.array(at, pa.int64())
    columns["raw"] = pa.array(raw, pa.binary()).cast(pa.string())
    arrays = [columns.get(each.name, pa.nulls(0, each.type)) for each in CANDIDATES]
    arrays = [array if len(array) == len(at) else pa.nulls(len(at), array.type) for array in arrays]
    return pa.Table.from_arrays(arrays, schema=CANDIDATES)


def _table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    return pa.Table.from_arrays(
        [pa.array(column, each.type) for column, each in zip(columns, schema, strict=True)], schema=schema
    )
