"""`--format xlsx`: a workbook with a sheet to read first, the rows, and totals that the spreadsheet computes itself.

A workbook holds numbers as binary doubles, which keep 15 significant digits. What has more is written as text,
so that no figure in a workbook is another than the report's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from datetime import datetime
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from metering.errors import UsageError
from metering.reports.catalog import ReportColumn
from metering.reports.exact import GB_HOURS_PLACES
from metering.values import minor_digits

if TYPE_CHECKING:
    from metering.reports.render import Answer

MAX_ROWS = 1_048_576
MAX_TEXT = 32_767
MAX_DIGITS = 15
FIRST_DAY = datetime(1900, 3, 1)  # noqa: DTZ001  cells have no zone
"""Spreadsheets do not agree on days before."""
MADE_AT = "made at"
"""The key of `Answer.about` that dates the file."""

ADDED = {"money", "gb_hours"}
STANDINGS = {
    "statement": {"balance_change", "credit_change", "owed_change", "balance", "credit", "owed"},
    "forecast": {"balance"},
}
"""Columns that do not add up to anything: they say on each row, or on the first and the last, how things stand."""

WIDTHS = {"money": 16, "gb_hours": 24, "price": 18, "integer": 14, "instant": 25, "month": 9, "day": 11}


def write_xlsx(answer: Answer, output: str | IO[bytes]) -> None:
    """Write a workbook; the same rows at the same engine time make the same bytes."""
    try:
        import xlsxwriter
    except ImportError:
        raise UsageError(
            "Workbooks need XlsxWriter.",
            unchanged="Nothing was written.",
            remedy='Install the extra: pip install "metering[xlsx]".',
        ) from None
    rows = answer.typed()
    if rows.num_rows >= MAX_ROWS:
        raise UsageError(
            f"{answer.report.name} has {rows.num_rows} rows; a worksheet holds {MAX_ROWS - 1} below its header.",
            unchanged="Nothing was written.",
            remedy="Ask for one month or account, or take --format parquet or csv.",
        )
    # Opened before the rows are written, so that a place that cannot be written to is found out here.
    with Path(output).open("wb") if isinstance(output, str) else nullcontext(output) as file:
        book = xlsxwriter.Workbook(
            file, {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
        )
        _Workbook(book, answer, rows).write()
        book.close()


class _Workbook:
    """One workbook that is being written."""

    def __init__(self, book: Any, answer: Answer, rows: pa.Table) -> None:
        self._book = book
        self._answer = answer
        self._rows = rows
        self._columns = answer.report.columns
        self._formats: dict[str, Any] = {}
        self._long: set[int] = set()
        """The columns in which a number stands as text."""
        self._name = answer.report.name[:31]

    def write(self) -> None:
        """All sheets."""
        made = datetime.fromisoformat(self._answer.about[MADE_AT]).replace(tzinfo=None)
        self._book.set_properties({"title": self._answer.report.name, "created": made})
        self._write_about()
        self._write_rows()
        if self._rows.num_rows and self._added():
            self._write_totals()

    def _format(self, pattern: str = "", *, bold: bool = False, wrap: bool = False) -> Any:
        key = f"{pattern}/{bold}/{wrap}"
        if key not in self._formats:
            settings = {"num_format": pattern, "bold": bold, "text_wrap": wrap, "valign": "top"}
            self._formats[key] = self._book.add_format({name: value for name, value in settings.items() if value})
        return self._formats[key]

    # The sheet to read first

    def _write_about(self) -> None:
        sheet = self._book.add_worksheet("Read me")
        sheet.set_column(0, 0, 26)
        sheet.set_column(1, 1, 100)
        report = self._answer.report
        lines = [
            ("report", f"{report.name}: {report.grain}"),
            *self._answer.about.items(),
            ("rows", f"{self._rows.num_rows:,}"),
            ("times", "in UTC"),
            (
                "numbers",
                f"A workbook keeps {MAX_DIGITS} significant digits; a number with more stands here as text,"
                " unrounded, and is part of the totals.",
            ),
            ("", ""),
            ("column", "what it holds"),
            *((column.name, column.doc) for column in report.columns),
        ]
        for row, (name, text) in enumerate(lines):
            bold = name == "column"
            sheet.write_string(row, 0, name, self._format(bold=True))
            sheet.write_string(row, 1, _cut(text), self._format(bold=bold, wrap=True))

    # The rows

    def _write_rows(self) -> None:
        sheet = self._book.add_worksheet(self._name)
        for index, column in enumerate(self._columns):
            sheet.set_column(index, index, max(WIDTHS.get(column.kind, 20), len(column.name) + 3))
            sheet.write_string(0, index, column.name, self._format(bold=True))
        sheet.freeze_panes(1, 0)
        sheet.autofilter(0, 0, self._rows.num_rows, len(self._columns) - 1)
        for row, values in enumerate(self._values(), 1):
            currency = values[self._currency] if self._currency is not None else None
            for index, (column, value) in enumerate(zip(self._columns, values, strict=True)):
                if value is not None:
                    self._write_cell(sheet, row, index, column, value, currency)

    @property
    def _currency(self) -> int | None:
        names = [column.name for column in self._columns]
        return names.index("currency") if "currency" in names else None

    def _values(self) -> Iterator[tuple[Any, ...]]:
        rows = self._rows
        for index, column in enumerate(self._columns):
            if pa.types.is_timestamp(rows.schema.field(index).type):
                # Naive times, because pandas' and Arrow's zones are none that XlsxWriter takes.
                rows = rows.set_column(index, column.name, rows.column(index).cast(pa.timestamp("us"), safe=False))
        for batch in rows.to_batches(max_chunksize=10_000):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    def _write_cell(
        self, sheet: Any, row: int, index: int, column: ReportColumn, value: Any, currency: str | None
    ) -> None:
        if isinstance(value, bool):
            sheet.write_boolean(row, index, value)
        elif isinstance(value, (int, Decimal)):
            if _digits(value) > MAX_DIGITS:
                self._long.add(index)
                sheet.write_string(row, index, self._plain(column, value, currency))
            else:
                sheet.write_number(row, index, value, self._format(_pattern(column.kind, currency, value)))
        elif isinstance(value, float) and isfinite(value):
            sheet.write_number(row, index, value)
        elif isinstance(value, datetime) and value >= FIRST_DAY:
            sheet.write_datetime(row, index, value, self._format("yyyy-mm-dd hh:mm:ss.000"))
        else:
            text = f"{value.isoformat()}Z" if isinstance(value, datetime) else str(value)
            sheet.write_string(row, index, _cut(text))

    @staticmethod
    def _plain(column: ReportColumn, value: int | Decimal, currency: str | None) -> str:
        if column.kind == "money" and isinstance(value, Decimal):
            value = round(value, minor_digits(currency or ""))
        return f"{value:f}" if isinstance(value, Decimal) else str(value)

    # The totals

    def _added(self) -> list[int]:
        kinds = ADDED if self._currency is not None else ADDED - {"money"}
        standings = STANDINGS.get(self._answer.report.name, set())
        return [
            index for index, column in enumerate(self._columns) if column.kind in kinds and column.name not in standings
        ]

    def _write_totals(self) -> None:
        sheet = self._book.add_worksheet("Totals")
        sheet.set_column(0, 0, 12)
        sheet.write_string(0, 0, "currency" if self._currency is not None else "", self._format(bold=True))
        for place, index in enumerate(self._added(), 1):
            column = self._columns[index]
            sheet.set_column(place, place, max(WIDTHS[column.kind], len(column.name) + 3))
            sheet.write_string(0, place, column.name, self._format(bold=True))
        for row, (currency, sums) in enumerate(self._sums(), 1):
            sheet.write_string(row, 0, currency)
            for place, index in enumerate(self._added(), 1):
                column, total = self._columns[index], sums[place - 1]
                style = self._format(_pattern(column.kind, currency, total))
                formula = self._total(index, currency, f"$A{row + 1}")
                if index in self._long:
                    sheet.write_array_formula(row, place, row, place, f"{{{formula}}}", style, total)
                else:
                    sheet.write_formula(row, place, formula, style, total)

    def _total(self, index: int, currency: str, label: str) -> str:
        """The formula of a column's total, in the currency that stands at `label`.

        A text has its digits taken without their point, because what a point means is another thing in each country.
        """
        cells = self._cells(index)
        by = None if self._currency is None else self._cells(self._currency)
        if by is None:
            numbers, is_its = f"SUM({cells})", ""
        elif currency:
            numbers, is_its = f"SUMIF({by},{label},{cells})", f"*({by}={label})"
        else:
            numbers, is_its = f'SUMIF({by},"=",{cells})', f'*({by}="")'
        is_money = self._columns[index].kind == "money"
        if index not in self._long or (is_money and not currency):
            return f"={numbers}"
        places = minor_digits(currency) if is_money else GB_HOURS_PLACES
        texts = f'VALUE(SUBSTITUTE({cells},".",""))/10^{places}'
        return f"={numbers}+SUM(IF(ISTEXT({cells}){is_its},{texts},0))"

    def _cells(self, index: int) -> str:
        """The cells of a column below its header."""
        from xlsxwriter.utility import xl_range_abs

        return f"'{self._name}'!{xl_range_abs(1, index, self._rows.num_rows, index)}"

    def _sums(self) -> list[tuple[str, list[Decimal]]]:
        """The sums by currency, which a reader that does not calculate shows."""
        found: dict[str, list[Decimal]] = {}
        for values in self._values():
            currency = "all" if self._currency is None else (values[self._currency] or "")
            sums = found.setdefault(currency, [Decimal(0)] * len(self._added()))
            for place, index in enumerate(self._added()):
                sums[place] += values[index] or 0
        return sorted(found.items())


def _pattern(kind: str, currency: str | None, value: int | Decimal) -> str:
    """The number format of a cell."""
    if kind == "money":
        digits = minor_digits(currency) if currency else 3
        return f"#,##0.{'0' * digits}" if digits else "#,##0"
    if kind == "gb_hours":
        return "#,##0.000000000"
    if kind == "price":
        return "0.00##########"
    if isinstance(value, Decimal):
        places = -int(value.as_tuple().exponent)
        return f"0.{'0' * places}" if places > 0 else "0"
    return "0"


def _digits(value: int | Decimal) -> int:
    """The significant digits of a number."""
    return len(f"{abs(value):f}".replace(".", "").strip("0") if isinstance(value, Decimal) else str(abs(value)))


def _cut(text: str) -> str:
    """A text as long as a cell holds, which counts in UTF-16."""
    if len(text) <= MAX_TEXT // 2 or len(units := text.encode("utf-16-le")) <= 2 * MAX_TEXT:
        return text
    mark = " … (cut; --format csv has all of it)"
    return units[: 2 * (MAX_TEXT - len(mark))].decode("utf-16-le", "ignore") + mark
