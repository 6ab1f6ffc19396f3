"""A chunk of lines -> accepted events and faults: a pure function, so that any thread can do it.

Most lines fit a shape that was seen before and are read together (`shapes.py`). The others take the way line by
line: a decoder in C where a count of keys leaves no room for one that stands twice, and else the exact way. The
short ways only ever accept; every refusal is the exact way's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from metering.events.arrays import column, numbers, repeated, whole
from metering.events.instants import Bools, Ints
from metering.events.judge import Accepted, Fault, judge
from metering.events.shapes import Form, Lines, Page, Shape, forms_of, learn, read, read_forms
from metering.events.strict_json import MAX_DEPTH, parse

BOM = b"\xef\xbb\xbf"
MAX_LINE = 16 * 2**20
"""Bytes of the longest line that is looked into."""

CANDIDATES = pa.schema(
    [
        pa.field("line", pa.int64()),
        *(pa.field(name, pa.int64() if name in ("time", "size_bytes") else pa.string()) for name in Accepted._fields),
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
    """What became of a chunk; lines count from 0.

    `runs` are accepted events, each table of one type and by time. `text` has the lines, line n from `starts[n]` to
    `starts[n + 1]`.
    """

    runs: list[pa.Table]
    faults: pa.Table
    text: bytes
    starts: Ints

    @property
    def lines(self) -> int:
        """How many lines the chunk has, blank ones too."""
        return len(self.starts) - 1

    def raw(self, line: int) -> bytes:
        """A line without its end."""
        return self.text[self.starts[line] : self.starts[line + 1]].removesuffix(b"\n").removesuffix(b"\r")

    def raws(self, chosen: Bools) -> bytes:
        """The chosen lines, each with a line feed at its end."""
        text = _chosen(self.text, self.starts, chosen)
        if text and not text.endswith(b"\n"):
            text += b"\n"
        return text.replace(b"\r\n", b"\n") if b"\r" in text else text


@dataclass
class Judged:
    """Rows on their way to a table."""

    events: list[tuple[Any, ...]] = field(default_factory=list)
    faults: list[tuple[int, str, str, bytes]] = field(default_factory=list)

    def take(self, line: int, raw: bytes, read: Callable[[], Any]) -> Accepted | None:
        """Judge what `read` gives, and keep it as an event or as a fault."""
        try:
            event = judge(read())
        except Fault as fault:
            self.faults.append((line, fault.reason, fault.message, raw))
            return None
        self.events.append((line, *event))
        return event

    def tables(self) -> tuple[list[pa.Table], pa.Table]:
        """The events, a table for each type, and the faults."""
        by_type: dict[str, list[tuple[Any, ...]]] = {}
        for row in sorted(self.events, key=_by_time):
            by_type.setdefault(row[_TYPE], []).append(row)
        return [_table(rows, CANDIDATES) for rows in by_type.values()], _table(self.faults, FAULTS)


_TYPE = CANDIDATES.get_field_index("type")
_TIME = CANDIDATES.get_field_index("time")
_decode_any = msgspec.json.Decoder().decode


def _by_time(row: tuple[Any, ...]) -> tuple[int, int]:
    return row[_TIME], row[0]


def check_lines(text: bytes) -> Checked:
    """Check whole lines; only the last may lack its line feed."""
    lines, usual = _plain_lines(text)
    runs, taken = _read_forms(lines, usual)
    starts = np.append(lines.starts, len(text))
    if not taken.any():
        return _check_each(text, starts)
    rest = np.flatnonzero(~taken)
    edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.diff(starts)[rest])])
    checked = _check_each(_chosen(text, starts, ~taken), edges)
    others = [_with_lines(table, rest) for table in (*checked.runs, checked.faults)]
    return Checked([*runs, *others[:-1]], others[-1], text, starts)


def _chosen(text: bytes, starts: Ints, chosen: Bools) -> bytes:
    """The chosen lines of a text; line n goes from `starts[n]` to `starts[n + 1]`."""
    edges = np.flatnonzero(np.diff(chosen.astype(np.int8), prepend=0, append=0))
    return b"".join([text[starts[start] : starts[end]] for start, end in edges.reshape(-1, 2).tolist()])


def _with_lines(table: pa.Table, lines: Ints) -> pa.Table:
    """A table with other numbers for its lines."""
    return table.set_column(0, table.schema.field(0), whole(lines[numbers(table["line"])]))


def _check_each(text: bytes, starts: Ints) -> Checked:
    """Check lines by their shapes, and one by one what has none."""
    page, usual = _look(text)
    filled = page.ends > page.starts
    runs, taken = _read_alike(page, usual & filled)
    judged = Judged()
    for row in np.flatnonzero(filled & ~taken).tolist():
        raw = text[page.starts[row] : page.ends[row]]
        if len(raw) > MAX_LINE:
            message = f"The line has {len(raw)} bytes; {MAX_LINE} are looked into."
            judged.faults.append((row, "too_long", message, raw))
        elif raw.strip():
            judged.take(row, raw, partial(_value, raw, bool(usual[row])))
    events, faults = judged.tables()
    return Checked([*runs, *events], faults, text, starts)


def _plain_lines(text: bytes) -> tuple[Lines, Bools]:
    """The lines, and of each whether it is ASCII without control characters, DEL and escapes."""
    chars = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(chars == ord("\n"))
    starts = np.concatenate([np.zeros(1, np.int64), ends + 1])
    usual = np.ones(len(starts), np.bool_)
    odd = []
    if np.count_nonzero(chars < ord(" ")) != len(ends):
        odd.append((chars < ord(" ")) & (chars != ord("\n")))
    if not text.isascii():
        odd.append(chars >= 128)
    odd += [chars == byte[0] for byte in (b"\\", b"\x7f") if byte in text]
    for each in odd:
        usual[np.searchsorted(starts, np.flatnonzero(each), "right") - 1] = False
    if starts[-1] == len(text):
        starts, usual = starts[:-1], usual[:-1]
    else:
        ends = np.append(ends, len(text))
    return Lines(text, starts, ends), usual


def _look(text: bytes) -> tuple[Page, Bools]:
    """The lines, and of each whether no byte of it asks for the exact way.

    Such bytes are those that are not UTF-8, control characters, escapes, DEL, and the lead byte of U+0080 to U+00BF
    (whose first half are control characters).
    """
    chars = np.frombuffer(text, np.uint8)
    # Quotation marks, control characters, spaces and exclamation marks: few bytes, found in one walk.
    marks = np.flatnonzero(chars < ord("#"))
    kinds = chars[marks]
    others = (kinds != ord('"')) & (kinds != ord("\n"))
    controls = marks[:0]
    if others.any():
        controls = marks[others & (kinds < ord(" "))]
        marks, kinds = marks[~others], kinds[~others]
    feeds = np.flatnonzero(kinds == ord("\n"))
    ends = marks[feeds]
    starts = np.concatenate([np.zeros(1, np.int64), ends + 1])
    first = np.concatenate([np.zeros(1, np.int64), feeds + 1])
    if starts[-1] == len(text):
        starts, first = starts[:-1], first[:-1]
    else:
        ends, feeds = np.append(ends, len(text)), np.append(feeds, len(marks))
    usual = np.ones(len(starts), np.bool_)
    if len(controls):
        returns = (ends > starts) & (chars[np.maximum(ends - 1, 0)] == ord("\r"))
        ends = ends - returns
        controls = np.setdiff1d(controls, ends[returns])
    usual[np.searchsorted(starts, controls, "right") - 1] = False
    for byte in (b"\\", b"\x7f", b"\xc2"):
        if byte in text:
            usual[np.searchsorted(starts, np.flatnonzero(chars == byte[0]), "right") - 1] = False
    usual[_not_utf8(text, starts)] = False
    usual[ends - starts > MAX_LINE] = False
    return Page(text, starts, ends, marks, first, feeds - first), usual


def _not_utf8(text: bytes, starts: Ints) -> list[int]:
    """The lines that are not UTF-8."""
    found: list[int] = []
    begin = 0
    while begin < len(text) and not text.isascii():
        try:
            str(memoryview(text)[begin:], "utf-8")
        except UnicodeDecodeError as error:
            row = int(np.searchsorted(starts, begin + error.start, "right")) - 1
            found.append(row)
            begin = int(starts[row + 1]) if row + 1 < len(starts) else len(text)
        else:
            break
    return found


# Shapes

ALIKE = 64
"""How many lines must be left over before one of them is asked for its shape."""
_MAX_SHAPES = 256
_TRIES = 32
_shapes: dict[Shape, int] = {}
"""The shapes seen so far in this process: only a memory, for every one can be learned again."""


COMMON = 16
"""How many of the lines in a sample must have a form for it to be kept."""
_SAMPLE = 512
_MAX_FORMS = 64
_forms: dict[Form, None] = {}
"""The forms seen so far in this process, the same way."""


def _read_forms(lines: Lines, usual: Bools) -> tuple[list[pa.Table], Bools]:
    """Tables of the events in lines that have a known form, and which lines those are."""
    taken = np.zeros(len(usual), np.bool_)
    tables: list[pa.Table] = []
    by_shape: dict[Shape, list[Form]] = {}
    for form in list(_forms):
        by_shape.setdefault(form.shape, []).append(form)
    for shape, forms in by_shape.items():
        rows, columns = read_forms(lines, forms, np.flatnonzero(usual & ~taken))
        if len(rows):
            taken[rows] = True
            tables.append(_events(shape, rows, columns))
    return tables, taken


def _keep_forms(page: Page, shape: Shape, rows: Ints) -> None:
    """Learn the forms that are common among lines of a shape."""
    if len(rows) >= COMMON and len(_forms) < _MAX_FORMS:
        for form in forms_of(page, shape, np.sort(rows[:_SAMPLE]), COMMON):
            if len(_forms) < _MAX_FORMS:
                _forms.setdefault(form)


def _read_alike(page: Page, usual: Bools) -> tuple[list[pa.Table], Bools]:
    """Tables of the events in lines that fit a shape, and which lines those are."""
    taken = np.zeros(len(usual), np.bool_)
    tables: list[pa.Table] = []
    counts = set(np.unique(page.count[usual]).tolist())
    for shape in sorted(_shapes, key=lambda shape: -_shapes.get(shape, 0)):
        if shape.quotes in counts:
            _take(page, shape, usual, taken, tables)
    for _ in range(_TRIES):
        left = np.flatnonzero(usual)
        if len(left) < ALIKE:
            break
        row = int(left[0])
        line = page.text[page.starts[row] : page.ends[row]]
        with suppress(Fault):
            new = learn(line, judge(parse(line)))
            if new and _take(page, new, usual, taken, tables) * 4 >= ALIKE and len(_shapes) < _MAX_SHAPES:
                _shapes.setdefault(new, 0)
        usual[row] = False
    return tables, taken


def _take(page: Page, shape: Shape, usual: Bools, taken: Bools, tables: list[pa.Table]) -> int:
    rows, columns = read(page, shape, np.flatnonzero(usual))
    if len(rows):
        usual[rows] = False
        taken[rows] = True
        tables.append(_events(shape, rows, columns))
        if shape in _shapes:
            _shapes[shape] += len(rows)
        _keep_forms(page, shape, rows)
    return len(rows)


def _events(shape: Shape, rows: Ints, columns: dict[str, pa.Array]) -> pa.Table:
    columns = {**columns, "line": whole(rows), "type": repeated(shape.kind, len(rows))}
    arrays = [columns[each.name] if each.name in columns else pa.nulls(len(rows), each.type) for each in CANDIDATES]
    return pa.Table.from_arrays(arrays, schema=CANDIDATES)


# Line by line


def _value(raw: bytes, is_usual: bool) -> Any:
    """The value of a line; raises Fault."""
    if is_usual and raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH and b'" ' not in raw:
        with suppress(msgspec.DecodeError, ValueError, RecursionError):
            value = _decode_any(raw)
            if _keys(value) == raw.count(b'":') and _is_exact(value):
                return value
    return parse(raw)


def _is_exact(value: Any) -> bool:
    """Whether no number of an object or its data was rounded by the decoder."""
    if not isinstance(value, dict):
        return False
    data = value.get("data")
    return not any(
        isinstance(each, float) for each in (*value.values(), *(data.values() if isinstance(data, dict) else ()))
    )


def _keys(value: Any) -> int:
    """How many keys the objects in a value have; a key that stood twice in the text counts once here."""
    if isinstance(value, dict):
        return len(value) + sum(map(_keys, value.values()))
    return sum(map(_keys, value)) if isinstance(value, list) else 0


def _table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    return pa.Table.from_arrays(
        [column(values, each.type) for values, each in zip(columns, schema, strict=True)], schema=schema
    )
