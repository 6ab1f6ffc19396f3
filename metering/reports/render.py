"""The formats: how the rows of a report are printed."""

from __future__ import annotations

import io
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

import msgspec
import pyarrow as pa

from metering.columns import side_by_side
from metering.durable import written_whole
from metering.errors import UsageError
from metering.reports import exact
from metering.reports.catalog import Report
from metering.values import visible

if TYPE_CHECKING:
    from metering.home import Home

ROWS_AT_ONCE = 65_536
FOLDED_ROWS = 1_000
"""A longer table is not folded to the terminal's width: laying out every cell would take minutes."""
LEAST_TEXT = 20
"""A text is not folded to less: numbers of documents and whole seconds stay in one piece."""
GAP = 2
FOLDED_GAP = 3

_SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20"
"""What makes a formula of a text; in Japan the wide signs do too."""
_FORMULA = f"{_SIGNS}\t\r\n"
"""What makes one of it where it stands first."""
_RIGHT = {"money", "gb_hours", "price", "integer", "decimal", "number"}


class Answer(Protocol):
    """What can be written: columns, and rows both as they are printed and with exact types."""

    @property
    def report(self) -> Report: ...
    @property
    def about(self) -> dict[str, str]:
        """What a reader of a file wants to know of it: when and of what it was made, and which filter it has."""

    def printed(self) -> pa.Table: ...
    def typed(self) -> pa.Table: ...


@dataclass(frozen=True)
class Asked:
    """The rows of a report as its SQL gives them."""

    report: Report
    rows: pa.Table
    gigabyte_bytes: int
    about: dict[str, str]

    def printed(self) -> pa.Table:
        """The rows as they are printed."""
        return exact.printed(self.report, self.rows, self.gigabyte_bytes)

    def typed(self) -> pa.Table:
        """The rows with exact types."""
        return exact.typed(self.report, self.rows, self.gigabyte_bytes)


def rows_of(report: Report, table: pa.Table, gigabyte_bytes: int) -> Iterator[list[Any]]:
    """The rows with every value as it is printed: text, integer, or None for what is missing."""
    return _rows(exact.printed(report, table, gigabyte_bytes))


def _rows(printed: pa.Table) -> Iterator[list[Any]]:
    for batch in printed.to_batches(max_chunksize=ROWS_AT_ONCE):
        yield from map(list, zip(*(column.to_pylist() for column in batch.columns), strict=True))


def write(answer: Answer, format: str, output: str | None) -> None:
    """Print a report to standard output or write it to a file."""
    if output is None and format in _FILES:
        _pipe(answer, format)
    elif output is None:
        _TEXTS[format](answer.report, answer.printed(), sys.stdout)
    elif format in _FILES:
        with written_whole(Path(output)) as place:
            _FILES[format](answer, str(place))
    else:
        with written_whole(Path(output)) as place, place.open("w", encoding="utf-8", newline="") as file:
            _TEXTS[format](answer.report, answer.printed(), file)


def _pipe(answer: Answer, format: str) -> None:
    """Write what is no text to standard output, which must not be a terminal."""
    if sys.stdout.isatty():
        raise UsageError(f"{format} is nothing for a terminal.", remedy="Name a file with --output, or redirect it.")
    whole = io.BytesIO()
    _FILES[format](answer, whole)
    sys.stdout.buffer.write(whole.getbuffer())


def write_rows(home: Home, report: Report, rows: pa.Table, format: str, output: str | None) -> None:
    """Print rows that a command made itself, or write them to a file."""
    from metering.reports.ask import state_of

    about = state_of(home) if format == "xlsx" else {}
    write(Asked(report, rows, home.config.billing.gigabyte_bytes, about), format, output)


def _write_parquet(answer: Answer, output: str | IO[bytes]) -> None:
    import pyarrow.parquet as pq

    pq.write_table(answer.typed(), output, compression="zstd")


def _write_xlsx(answer: Answer, output: str | IO[bytes]) -> None:
    from metering.reports.xlsx import write_xlsx

    write_xlsx(answer, output)


def _write_csv(report: Report, printed: pa.Table, file: IO[str]) -> None:
    file.write(_csv_line(column.name for column in report.columns))
    for lines in side_by_side(partial(_csv_lines, report), printed.to_batches(max_chunksize=ROWS_AT_ONCE)):
        file.write(lines)


def _csv_lines(report: Report, printed: pa.RecordBatch) -> str:
    """Some rows as lines of CSV."""
    from pyarrow import csv as arrow_csv

    texts = [index for index, column in enumerate(report.columns) if column.kind == "text"]
    if len(report.columns) == 1 or any(_is_special(printed.column(index)) for index in texts):
        columns = [column.to_pylist() for column in printed.columns]
        for index in texts:
            columns[index] = [_guard(value) for value in columns[index]]
        return "".join(map(_csv_line, zip(*columns, strict=True)))
    # Nothing needs a quote, so that whole columns can be written at once.
    buffer = pa.BufferOutputStream()
    plain = arrow_csv.WriteOptions(include_header=False, quoting_style="none")
    arrow_csv.write_csv(printed, buffer, plain)
    return str(buffer.getvalue(), "utf-8")


def _csv_line(values: Iterable[Any]) -> str:
    """A line by RFC 4180: the standard library quotes no carriage return before Python 3.13."""
    line = ",".join(_csv_field(_text(value)) for value in values)
    # Readers skip an empty line.
    return f"{line}\n" if line else '""\n'


def _text(value: Any) -> str:
    """A printed value, as it stands in a line of text."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _csv_field(text: str) -> str:
    if any(mark in text for mark in ('"', ",", "\n", "\r")):
        escaped = text.replace('"', '""')
        return f'"{escaped}"'
    return text


_BEGINS_FORMULA = re.compile(rf"""(\A(?=[{re.escape(_FORMULA)}])|[;\t][ "']*(?=[{re.escape(_SIGNS)}]))""")
_PARTING = (b'"', b",", b"\n", b"\r", b";", b"\t")
"""What may end a cell wherever it stands in a text; no other character has these bytes in UTF-8."""


def _is_special(texts: pa.Array) -> bool:
    """Whether any of the texts must be quoted or guarded in CSV.

    It is looked for in the bytes of all of them at once, which takes a tenth of what a pattern takes on each.
    """
    import numpy as np

    _, places, data = texts.buffers()
    if data is None:
        return False
    offsets = np.frombuffer(places, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    text = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
    raw = text.tobytes()
    if any(mark in raw for mark in _PARTING):
        return True
    begins = (offsets[:-1] - offsets[0])[np.diff(offsets) > 0]
    return bool(np.isin(text[begins], np.frombuffer(_FORMULA.encode(), np.uint8)).any())


def _guard(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets a quote before it.

    So does what stands behind a semicolon or a tab: where those part cells, it begins one.
    """
    return _BEGINS_FORMULA.sub(r"\1'", value) if value and value != "-" else value


def _write_json(report: Report, printed: pa.Table, file: IO[str]) -> None:
    names = [column.name for column in report.columns]
    encode = msgspec.json.Encoder().encode
    file.write("[")
    for count, row in enumerate(_rows(printed)):
        file.write(",\n " if count else "\n ")
        file.write(encode(dict(zip(names, row, strict=True))).decode())
    file.write("\n]\n")


def _write_table(report: Report, printed: pa.Table, file: IO[str]) -> None:
    """A table as wide as its widest values: no digit is ever cut off; long texts are folded where that helps.

    On a terminal that is too narrow even so, each row is a block of lines, a value a line. What would command the
    terminal, or hide or turn other text around, is written as its code.
    """
    if printed.num_rows == 0:
        file.write(f"{report.name}: no rows.\n")
        return
    printed = _all_visible(report, printed)
    room = shutil.get_terminal_size().columns
    widths = _widths(report, printed)
    least = [
        min(width, LEAST_TEXT) if column.kind == "text" else width
        for column, width in zip(report.columns, widths, strict=True)
    ]
    gaps = len(widths) - 1
    is_too_wide = sum(widths) + GAP * gaps > room
    if is_too_wide and sum(least) + FOLDED_GAP * gaps <= room and printed.num_rows <= FOLDED_ROWS:
        _write_folded(report, printed, file, room, least)
    elif is_too_wide and file.isatty():
        _write_blocks(report, printed, file)
    else:
        _write_aligned(report, printed, file, widths)


def _all_visible(report: Report, printed: pa.Table) -> pa.Table:
    from pyarrow import compute as pc

    for index, column in enumerate(report.columns):
        texts = printed.column(index)
        if column.kind == "text" and not pc.all(pc.utf8_is_printable(texts)).as_py():
            shown = (None if text is None else visible(text) for text in texts.to_pylist())
            printed = printed.set_column(index, column.name, pa.array(shown, pa.string()))
    return printed


def _widths(report: Report, printed: pa.Table) -> list[int]:
    from pyarrow import compute as pc

    found = []
    for column, values in zip(report.columns, printed.columns, strict=True):
        texts = values.cast(pa.string())
        if pc.all(pc.string_is_ascii(texts)).as_py():
            widest = pc.max(pc.utf8_length(texts)).as_py() or 0
        else:
            widest = max(_width(text or "") for text in texts.to_pylist())
        found.append(max(widest, len(column.name)))
    return found


def _width(text: str) -> int:
    """How many columns of a terminal a text takes: a Chinese character takes two, an accent of its own none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _write_blocks(report: Report, printed: pa.Table, file: IO[str]) -> None:
    names = [column.name for column in report.columns]
    width = max(map(len, names)) + GAP
    for number, row in enumerate(_rows(printed), 1):
        file.write(f"── {number} of {printed.num_rows} ──\n")
        for name, value in zip(names, row, strict=True):
            file.write(f"{name:<{width}}{_text(value)}".rstrip() + "\n")


def _write_folded(report: Report, printed: pa.Table, file: IO[str], room: int, least: list[int]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=file, highlight=False, soft_wrap=False, width=room)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column, width in zip(report.columns, least, strict=True):
        side: Literal["left", "right"] = "right" if column.kind in _RIGHT else "left"
        whole = column.kind != "text"
        table.add_column(column.name, justify=side, no_wrap=whole, overflow="fold", min_width=width)
    for row in _rows(printed):
        table.add_row(*(Text(_text(value)) for value in row))
    console.print(table)


def _write_aligned(report: Report, printed: pa.Table, file: IO[str], widths: list[int]) -> None:
    is_right = [column.kind in _RIGHT for column in report.columns]

    def line(values: Iterable[str]) -> str:
        padded = (
            " " * (width - _width(text)) + text if right else text + " " * (width - _width(text))
            for text, width, right in zip(values, widths, is_right, strict=True)
        )
        return (" " * GAP).join(padded).rstrip() + "\n"

    file.write(line(column.name for column in report.columns))
    file.write((" " * GAP).join("─" * width for width in widths) + "\n")
    for row in _rows(printed):
        file.write(line(map(_text, row)))


_TEXTS: dict[str, Callable[[Report, pa.Table, Any], None]] = {
    "csv": _write_csv,
    "json": _write_json,
    "table": _write_table,
}
_FILES: dict[str, Callable[[Answer, str | IO[bytes]], None]] = {"parquet": _write_parquet, "xlsx": _write_xlsx}
