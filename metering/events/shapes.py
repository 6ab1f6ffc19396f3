"""Lines that look alike, read together: column by column instead of line by line.

A producer writes its events with one serializer, so that lines differ only in their values. A shape is what such
lines share: the texts between the values. It is learned from one line that the exact way accepts; another line fits
if it holds the same texts and, between them, values that the exact way accepts too: strings without quotation
marks, escapes and control characters, and whole numbers in plain digits.

Where values are as wide as those of other lines, too, even their quotation marks need not be looked for: a form is a
shape with a width for each value, so that all its bytes that are not of values stand at known places.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, zip_longest

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from metering.events.arrays import whole
from metering.events.instants import Bools, Ints, read_places
from metering.events.judge import MAX_TEXT, RESOURCE_TYPES, Accepted

Words = npt.NDArray[np.uint64]

MAX_DIGITS = 18
"""Longer numbers might not fit 64 bits."""

_TOKEN = re.compile(rb'"([^"]*)"|[-\d][^,\]} ]*|[a-z]+| +|.')
_PLAIN = re.compile(rb"0|[1-9]\d{0,%d}" % (MAX_DIGITS - 1))
_COLUMNS: dict[tuple[str, ...], str] = {
    **{(name,): name for name in ("id", "source", "subject", "time")},
    **{("data", name): name for name in Accepted._fields[5:]},
}
_FIXED = {("specversion",), ("type",)}


@dataclass(frozen=True)
class Slot:
    """Where lines of a shape differ: a string or a whole number, and the column that it fills, if any."""

    column: str
    is_number: bool


@dataclass(frozen=True)
class Shape:
    """Texts that stand before, between and after values."""

    kind: str
    texts: tuple[bytes, ...]
    slots: tuple[Slot, ...]

    @cached_property
    def quotes(self) -> int:
        """How many quotation marks a line of this shape has."""
        return sum(text.count(b'"') for text in self.texts)


@dataclass(frozen=True)
class Form:
    """A shape with the width in bytes of each value."""

    shape: Shape
    widths: tuple[int, ...]

    @cached_property
    def cuts(self) -> list[tuple[int, int]]:
        """Where each value starts and ends, counted from the start of a line."""
        found, at = [], 0
        for text, width in zip(self.shape.texts, self.widths, strict=False):
            at += len(text)
            found.append((at, at + width))
            at += width
        return found

    @cached_property
    def length(self) -> int:
        """The bytes of a line."""
        return sum(map(len, self.shape.texts)) + sum(self.widths)

    @cached_property
    def words(self) -> tuple[Words, Words]:
        """The bytes of a line as whole words, and which of them are not of values."""
        line, fixed = np.zeros((2, -(-self.length // 8) * 8), np.uint8)
        line[: self.length] = np.frombuffer(b"".join(self._parts()), np.uint8)
        fixed[: self.length] = 255
        for start, end in self.cuts:
            fixed[start:end] = 0
        return line.view(np.uint64), fixed.view(np.uint64)

    def _parts(self) -> Iterator[bytes]:
        for text, width in zip_longest(self.shape.texts, self.widths, fillvalue=0):
            yield text if isinstance(text, bytes) else b""
            yield bytes(width) if isinstance(width, int) else b""

    def rows(self, page: Lines, rows: Ints) -> Ints:
        """The lines among `rows`, all of this form's length, that have its texts and no other quotation mark."""
        line, fixed = self.words
        view = np.ndarray((max(len(page.text) - line.nbytes + 1, 0),), f"V{line.nbytes}", page.text, strides=(1,))
        rows = rows[page.starts[rows] < len(view)]
        found = view[page.starts[rows]]
        good = ~((found.view(np.uint64).reshape(-1, len(line)) ^ line) & fixed).any(axis=1)
        quotes = found.view(np.uint8).reshape(len(rows), line.nbytes)[:, : self.length] == ord('"')
        if not good.all() or np.count_nonzero(quotes) != len(rows) * self.shape.quotes:
            good &= np.count_nonzero(quotes, axis=1) == self.shape.quotes
            rows = rows[good]
        return rows


def learn(line: bytes, event: Accepted) -> Shape | None:
    """The shape of a line without escapes and control characters, which says this event; None if it has none."""
    texts, slots = [bytearray()], []
    used = {name for name, value in event._asdict().items() if value is not None} | (
        {"name"} if event.type == "snapshot.ready" else set()
    )
    for token, path in _tokens(line):
        text = token[0]
        is_number = path is not None and _PLAIN.fullmatch(text) is not None
        if path is None or path in _FIXED or not (is_number or text.startswith(b'"')):
            texts[-1] += text
            continue
        column = _COLUMNS.get(path, "")
        slots.append(Slot(column if column in used else "", is_number))
        texts[-1] += b"" if is_number else b'"'
        texts.append(bytearray(b"" if is_number else b'"'))
    filled = {slot.column for slot in slots if slot.is_number == (slot.column == "size_bytes")}
    if used - {"type", "name"} - filled or (event.name is not None and "name" not in filled):
        return None
    return Shape(event.type, tuple(map(bytes, texts)), tuple(slots))


def _tokens(line: bytes) -> Iterator[tuple[re.Match[bytes], tuple[str, ...] | None]]:
    """The tokens of valid JSON, each value that is no container with its path of keys ("" stands for an array)."""
    path: list[str] = []
    objects: list[bool] = []
    is_key = False
    for token in _TOKEN.finditer(line):
        text = token[0]
        is_scalar = text[:1] not in b"{}[]:, "
        if is_scalar and is_key:
            path[-1] = token[1].decode("utf-8")
        yield token, (tuple(path) if all(objects) else ("",)) if is_scalar and not is_key else None
        if text in (b"{", b"["):
            path.append("")
            objects.append(text == b"{")
        elif text in (b"}", b"]"):
            path.pop()
            objects.pop()
        if text != b" " * len(text):
            is_key = text == b"{" or (text == b"," and objects[-1])


class Lines:
    """A text of whole lines; `ends` are the lines' ends without line feeds."""

    def __init__(self, text: bytes, starts: Ints, ends: Ints) -> None:
        self.text, self.starts, self.ends = text, starts, ends
        self.chars = np.frombuffer(text, np.uint8)

    def at(self, places: Ints, length: int) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        """So many bytes from each place; of places from which there are not so many, any."""
        view: np.ndarray[tuple[int], np.dtype[np.void]] = np.ndarray(
            (len(self.text) - length + 1,), f"V{length}", self.text, strides=(1,)
        )
        if len(places) and (places.min() < 0 or places.max() >= len(view)):
            places = np.clip(places, 0, len(view) - 1)
        return view[places]

    def holds(self, places: Ints, text: bytes) -> Bools:
        """Whether the text stands at each place."""
        last = len(self.text) - len(text)
        if last < 0 or not len(places):
            return np.zeros(len(places), np.bool_)
        found = np.asarray(self.at(places, len(text)) == np.void(text))
        if places.min() < 0 or places.max() > last:
            found &= (places >= 0) & (places <= last)
        return found


class Page(Lines):
    """Lines with the places of their quotation marks (and of line feeds, which no line holds).

    `first` says which mark is a line's first, and `count` how many quotation marks it has.
    """

    def __init__(self, text: bytes, starts: Ints, ends: Ints, quotes: Ints, first: Ints, count: Ints) -> None:
        super().__init__(text, starts, ends)
        self.quotes, self.first, self.count = quotes, first, count


def read(page: Page, shape: Shape, rows: Ints) -> tuple[Ints, dict[str, pa.Array]]:
    """The lines among `rows` that fit a shape, by time, and their columns."""
    return _good(page, shape, *_spans(page, shape, rows))


def forms_of(page: Page, shape: Shape, rows: Ints, least: int) -> list[Form]:
    """The forms of lines that fit a shape, those that are as frequent as that."""
    spans, rows = _spans(page, shape, rows)
    if not len(rows):
        return []
    widths = np.column_stack([end - start for start, end in spans])
    found, counts = np.unique(widths, axis=0, return_counts=True)
    return [Form(shape, tuple(each)) for each in found[counts >= least].tolist()]


def read_forms(lines: Lines, forms: Sequence[Form], rows: Ints) -> tuple[Ints, dict[str, pa.Array]]:
    """The lines among `rows` that have one of the forms of one shape, by time, and their columns."""
    lengths = lines.ends[rows] - lines.starts[rows]
    found: list[Ints] = []
    places: list[Ints] = []
    for form in forms:
        alike = np.flatnonzero(lengths == form.length)
        if len(alike):
            taken = form.rows(lines, rows[alike])
            lengths[np.searchsorted(rows, taken)] = -1
            found.append(taken)
            places.append(np.array(form.cuts).ravel()[:, np.newaxis] + lines.starts[taken])
    if not found:
        return rows[:0], {}
    edges = np.concatenate(places, axis=1)
    return _good(lines, forms[0].shape, list(zip(edges[::2], edges[1::2], strict=True)), np.concatenate(found))


def _good(page: Lines, shape: Shape, spans: list[tuple[Ints, Ints]], rows: Ints) -> tuple[Ints, dict[str, pa.Array]]:
    """Those of some lines whose values between the shape's texts are good, by time, and their columns."""
    good = np.ones(len(rows), np.bool_)
    numbers = {}
    for slot, (start, end) in zip(shape.slots, spans, strict=True):
        if slot.is_number:
            numbers[slot.column], plain = _numbers(page, start, end)
            good &= plain
        elif slot.column == "time":
            times, known = _times(page, start, end)
            good &= known
        elif slot.column == "resource_type":
            good &= _is_one_of(page, start, end, RESOURCE_TYPES)
        elif slot.column:
            good &= (end > start) & (end - start <= MAX_TEXT)
    if not len(rows) or not good.any():
        return rows[:0], {}
    chosen = np.arange(len(rows)) if good.all() else np.flatnonzero(good)
    if np.any(np.diff(times[chosen]) < 0):
        chosen = chosen[np.argsort(times[chosen], kind="stable")]
    columns = _texts(page, shape, spans, chosen)
    columns["time"] = whole(times[chosen])
    if "size_bytes" in numbers:
        columns["size_bytes"] = whole(numbers["size_bytes"][chosen])
    return rows[chosen], columns


def _spans(page: Page, shape: Shape, rows: Ints) -> tuple[list[tuple[Ints, Ints]], Ints]:
    """Where the values of each slot start and end, in the lines that hold the shape's texts and nothing else."""
    rows = rows[page.count[rows] == shape.quotes]
    places: list[Ints] = []
    first = page.first[rows]
    seen = 0
    at = page.starts[rows]
    for number, text in enumerate(shape.texts):
        if number:
            mark = text.find(b'"')
            at = page.ends[rows] - len(text) if mark < 0 else page.quotes[first + seen] - mark
        seen += text.count(b'"')
        good = page.holds(at, text)
        if number:
            good &= at >= places[-1]
        places += [at, at + len(text)]
        at = places[-1]
        if number == len(shape.slots):
            good &= at == page.ends[rows]
        if not good.all():
            rows, first, at = rows[good], first[good], at[good]
            places = [place[good] for place in places]
    # Each text has a start and an end: a value lies between the end of one and the start of the next.
    return list(pairwise(places))[1::2], rows


def _numbers(page: Lines, start: Ints, end: Ints) -> tuple[Ints, Bools]:
    """The whole numbers written there, and whether they are in plain digits."""
    numbers, good = np.zeros(len(start), np.int64), np.zeros(len(start), np.bool_)
    for width, rows in _by_width(end - start, 1, MAX_DIGITS):
        digits = page.at(start[rows], width).view(np.uint8).reshape(-1, width) - np.uint8(ord("0"))
        good[rows] = (digits <= 9).all(axis=1) & ((digits[:, 0] != 0) | (width == 1))
        numbers[rows] = digits.astype(np.int64) @ 10 ** np.arange(width - 1, -1, -1)
    return numbers, good


def _by_width(widths: Ints, least: int, most: int) -> Iterator[tuple[int, Ints]]:
    """The widths within bounds that there are, and which values have each."""
    for width in np.flatnonzero(np.bincount(np.minimum(widths, most + 1), minlength=1)).tolist():
        if least <= width <= most:
            yield width, np.flatnonzero(widths == width)


def _times(page: Lines, start: Ints, end: Ints) -> tuple[Ints, Bools]:
    """The instants written there, and whether they are known."""
    times, known = np.zeros(len(start), np.int64), np.zeros(len(start), np.bool_)
    for width, rows in _by_width(end - start, 20, 40):
        chars = page.at(start[rows], width).view(np.uint8).reshape(-1, width)
        times[rows], known[rows] = read_places(np.ascontiguousarray(chars.T))
    return times, known


def _is_one_of(page: Lines, start: Ints, end: Ints, words: tuple[str, ...]) -> Bools:
    found = np.zeros(len(start), np.bool_)
    for word in words:
        found |= (end - start == len(word)) & page.holds(start, word.encode())
    return found


def _texts(page: Lines, shape: Shape, spans: list[tuple[Ints, Ints]], chosen: Ints) -> dict[str, pa.Array]:
    """The text columns of the chosen lines: cut out of the page by Arrow."""
    columns = {}
    text = pa.py_buffer(page.text)
    values = whole(np.arange(0, 2 * len(chosen), 2))
    for slot, (start, end) in zip(shape.slots, spans, strict=True):
        if slot.column and slot.column != "time" and not slot.is_number:
            # Values and what lies between them take turns. Arrow wants the last offset to be no less than the first.
            cuts = np.full(2 * len(chosen) + 1, len(page.text), np.int32)
            cuts[:-1:2], cuts[1::2] = start[chosen], end[chosen]
            pieces = pa.Array.from_buffers(pa.string(), len(cuts) - 1, [None, pa.py_buffer(cuts), text])
            columns[slot.column] = pieces.take(values)
    return columns
