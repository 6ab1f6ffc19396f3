"""CSV files that people write: read whole, with every mistake named by file and line."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

from metering.errors import UsageError, unreadable
from metering.values import InvalidValue, counted

MAX_TEXT = 255
T = TypeVar("T")
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Row(NamedTuple):
    """One row of a CSV file: where it stands, and its values by column, trimmed; a missing optional one is empty.

    Line 0 is what stands in a command instead of a file; `file` then names the command.
    """

    file: str
    line: int
    values: dict[str, str]

    @classmethod
    def of(cls, file: str, line: int, values: Mapping[str, str]) -> Row:
        """The row of values as they were written; UsageError for a control character or a text that is too long."""
        row = cls(file, line, {name: value.strip() for name, value in values.items()})
        for name, value in row.values.items():
            if _CONTROL.search(value):
                row.wrong(f"{name}: a control character")
            if len(value) > MAX_TEXT:
                row.wrong(f"{name}: longer than {MAX_TEXT} characters")
        return row

    def read(self, column: str, parse: Callable[..., T], *more: object) -> T:
        """The value of a column as `parse(text, *more)` reads it; what that refuses is told with the column's name."""
        try:
            return parse(self.values[column], *more)
        except InvalidValue as error:
            self.wrong(f"{column}: {error}")

    def wrong(self, message: str) -> NoReturn:
        """Refuse the file, or the command, because of this row."""
        if not self.line:
            raise UsageError(f"{self.file}: {message}.", remedy="Give another value, and run the command again.")
        raise UsageError(
            f"{self.file}, line {self.line}: {message}.",
            unchanged="Nothing of the file was taken.",
            remedy="Mend that line and run the command again.",
        )


def read_csv(path: str, required: Sequence[str], optional: Sequence[str] = ()) -> list[Row]:
    """The rows of a CSV file with a header; `-` is standard input.

    Raises UsageError for a file that is missing, not UTF-8, without the required columns, with unknown or
    repeated ones, with rows of another width, or with control characters.
    """
    rows: list[Row] = []
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header, required, optional)
        before = reader.line_num
        for values in reader:
            line, before = before + 1, reader.line_num
            if not any(value.strip() for value in values):
                continue
            row = Row(path, line, dict.fromkeys(optional, ""))
            if len(values) != len(header):
                what = f"{counted(len(values), 'value')} where the header has {len(header)}"
                hint = "; decimals have a point, and a text with a comma stands in quotes"
                row.wrong(what + hint if len(values) > len(header) else what)
            rows.append(Row.of(path, line, row.values | dict(zip(header, values, strict=True))))
    except csv.Error as error:
        Row(path, reader.line_num, {}).wrong(f"not CSV: {error}")
    return rows


def _text(path: str) -> str:
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise unreadable(path, error) from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}, line {line}: not UTF-8.", remedy="Save the file as UTF-8.") from None


def _check_header(path: str, header: list[str], required: Sequence[str], optional: Sequence[str]) -> None:
    if len(header) == 1 < len(required) and (other := re.search(r"[;\t|]", header[0])):
        raise UsageError(
            f"{path}, line 1: the columns are parted by {_SEPARATORS[other[0]]}, not by commas.",
            unchanged="Nothing of the file was taken.",
            remedy="Save it with commas between the columns, and with a point in decimal numbers.",
        )
    problems = (
        [f"no column {name!r}" for name in required if name not in header]
        + [f"unknown column {name!r}" for name in header if name not in required and name not in optional]
        + [f"column {name!r} twice" for name in sorted(set(header)) if header.count(name) > 1]
    )
    if problems:
        raise UsageError(
            f"{path}, line 1: {'; '.join(problems)}.",
            unchanged="Nothing of the file was taken.",
            remedy=f"The columns are: {', '.join(required)}"
            + (f"; optionally {', '.join(optional)}." if optional else "."),
        )
