"""The formats: how the rows of a report are printed."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import msgspec
import pyarrow as pa

from metering.errors import UsageError
from metering.reports.catalog import Report
from metering.values import format_gb_hours, format_instant, format_money

FORMATS = ("table", "csv", "json", "parquet")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_RIGHT = {"money", "gb_hours", "price", "integer"}


def rows_of(report: Report, table: pa.Table, gigabyte_bytes: int) -> Iterator[list[Any]]:
    """The rows with every value as it is printed: text, integer, or None for what is missing."""
    names = [column.name for column in report.columns]
    currency_at = names.index("currency") if "currency" in names else None
    printers = [_printer(column.kind, gigabyte_bytes) for column in report.columns]
    for batch in table.to_batches():
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            currency = row[currency_at] if currency_at is not None else ""
            yield [None if value is None else show(value, currency) for show, value in zip(printers, row, strict=True)]


def _printer(kind: str, gigabyte_bytes: int) -> Callable[[Any, str], Any]:
    if kind == "money":
        return lambda value, currency: format_money(int(value), currency)
    if kind == "gb_hours":
        return lambda value, _: format_gb_hours(int(value), gigabyte_bytes)
    if kind == "instant":
        return lambda value, _: format_instant(value)
    if kind == "bytes":
        return lambda value, _: value.decode("utf-8", "backslashreplace")
    return lambda value, _: value


def write(report: Report, table: pa.Table, gigabyte_bytes: int, format: str, output: str | None) -> None:
    """Print a report to standard output or write it to a file."""
    if format == "parquet":
        if output is None:
            raise UsageError("Parquet is no text.", remedy="Name a file with --output.")
        import pyarrow.parquet as pq

        pq.write_table(typed(report, table, gigabyte_bytes), output)
        return
    rows = rows_of(report, table, gigabyte_bytes)
    if output is None:
        _WRITERS[format](report, rows, sys.stdout)
        return
    try:
        with Path(output).open("w", encoding="utf-8", newline="") as file:
            _WRITERS[format](report, rows, file)
    except OSError as error:
        raise UsageError(f"{output}: {error.strerror or error}.") from None


def typed(report: Report, table: pa.Table, gigabyte_bytes: int) -> pa.Table:
    """The rows as Arrow with exact types: GB-hours decimal128(38, 9), money decimal128(38, 3), instants in UTC."""
    kinds = {
        "money": pa.decimal128(38, 3),
        "gb_hours": pa.decimal128(38, 9),
        "price": pa.decimal128(38, 12),
        "integer": pa.int64(),
        "instant": pa.timestamp("us", "UTC"),
    }
    columns: list[list[Any]] = [[] for _ in report.columns]
    for row in rows_of(report, table, gigabyte_bytes):
        for column, values, value in zip(report.columns, columns, row, strict=True):
            exact = column.kind in ("money", "gb_hours", "price") and value is not None
            values.append(Decimal(value) if exact else value)
    arrays = []
    for index, (column, values) in enumerate(zip(report.columns, columns, strict=True)):
        if column.kind == "instant":
            arrays.append(table.column(index).cast(pa.int64()).cast(kinds["instant"]).combine_chunks())
        else:
            arrays.append(pa.array(values, kinds.get(column.kind, pa.string())))
    return pa.table(arrays, names=[column.name for column in report.columns])


def _write_csv(report: Report, rows: Iterator[list[Any]], file: IO[str]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([column.name for column in report.columns])
    texts = [column.kind in ("text", "bytes") for column in report.columns]
    for row in rows:
        writer.writerow([_guard(value) if text else value for text, value in zip(texts, row, strict=True)])


def _guard(value: str | None) -> str | None:
    """A text that a spreadsheet would take for a formula gets a quote before it."""
    return f"'{value}" if value and value != "-" and value.startswith(_FORMULA) else value


def _write_json(report: Report, rows: Iterator[list[Any]], file: IO[str]) -> None:
    names = [column.name for column in report.columns]
    file.write("[")
    for count, row in enumerate(rows):
        file.write(",\n " if count else "\n ")
        file.write(msgspec.json.encode(dict(zip(names, row, strict=True))).decode())
    file.write("\n]\n")


def _write_table(report: Report, rows: Iterator[list[Any]], file: IO[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=file, highlight=False, soft_wrap=False)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in report.columns:
        right = column.kind in _RIGHT
        table.add_column(column.name, justify="right" if right else "left", no_wrap=right, overflow="fold")
    count = 0
    for row in rows:
        count += 1
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    console.print(table if count else f"{report.name}: no rows.")


_WRITERS: dict[str, Callable[[Report, Iterator[list[Any]], Any], None]] = {
    "csv": _write_csv,
    "json": _write_json,
    "table": _write_table,
}
