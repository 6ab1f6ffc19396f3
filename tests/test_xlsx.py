"""`--format xlsx`: a workbook that says what it is, adds itself up, and holds no other figure than the report."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path

import openpyxl
import pyarrow as pa
import pytest
from homes import Home

from metering.errors import UsageError
from metering.reports import xlsx
from metering.reports.catalog import Report, ReportColumn
from metering.reports.render import Asked, write

REPORT = Report(
    "sample",
    "one row",
    (
        ReportColumn("name", "text", "A name."),
        ReportColumn("currency", "text", "ISO 4217 code."),
        ReportColumn("amount", "money", "Money."),
        ReportColumn("gb_hours", "gb_hours", "Usage."),
        ReportColumn("at", "instant", "When."),
        ReportColumn("size_bytes", "integer", "Bytes."),
    ),
)
ABOUT = {"made at": "2026-06-01T08:00:00Z", "filter": "none"}
HOUR = 10**9 * 3_600_000_000


def book(path: Path, *rows: tuple[str | None, str, int, int, int | None, int]) -> openpyxl.Workbook:
    """A workbook of rows as a report's SQL gives them, read by another program."""
    kinds = (pa.string(), pa.string(), pa.int64(), pa.decimal128(38, 0), pa.int64(), pa.int64())
    columns = [pa.array([row[i] for row in rows], kind) for i, kind in enumerate(kinds)]
    table = pa.table(columns, names=[column.name for column in REPORT.columns])
    write(Asked(REPORT, table, 10**9, ABOUT), "xlsx", str(path))
    return openpyxl.load_workbook(path)


def test_cells_are_typed_and_exact(tmp_path: Path) -> None:
    """Numbers as numbers with the digits of their currency; what a double cannot hold as text."""
    made = book(
        tmp_path / "a.xlsx",
        ("a", "USD", -5, HOUR // 2, 0, 7),
        ("b", "JPY", 1234, 10**9 * HOUR, None, 2**62),
        ("c", "KWD", 10**16 + 1, 12_345_678 * HOUR + HOUR // 10**9, 1_500_000, 0),
    )
    sheet = made["sample"]
    rows = [[cell.value for cell in row] for row in sheet.iter_rows()]
    assert rows[0] == [column.name for column in REPORT.columns]
    assert rows[1] == ["a", "USD", -0.05, 0.5, datetime(1970, 1, 1), 7]  # noqa: DTZ001  cells have no zone
    assert rows[2] == ["b", "JPY", 1234, 10**9, None, str(2**62)]
    assert rows[3][:4] == ["c", "KWD", "10000000000000.001", "12345678.000000001"]
    assert rows[3][4] == datetime(1970, 1, 1, 0, 0, 1, 500_000)  # noqa: DTZ001
    assert [sheet.cell(row, 3).number_format for row in (2, 3)] == ["#,##0.00", "#,##0"]
    assert sheet.freeze_panes == "A2"
    assert sheet.auto_filter.ref == "A1:F4"


def test_a_day_that_spreadsheets_do_not_know_is_text(tmp_path: Path) -> None:
    """Their calendars begin in 1900, and take that for a leap year."""
    days = [-62_135_596_800_000_000, -2_203_891_200_000_001, -2_203_891_200_000_000]
    made = book(tmp_path / "a.xlsx", *(("a", "USD", 1, 1, day, 1) for day in days))
    found = [row[4].value for row in made["sample"].iter_rows(min_row=2)]
    assert found == ["0001-01-01T00:00:00Z", "1900-02-28T23:59:59.999999Z", datetime(1900, 3, 1)]  # noqa: DTZ001


def test_totals_are_formulas_for_each_currency(tmp_path: Path) -> None:
    """The spreadsheet adds up; a program that does not calculate reads the sums beside the formulas."""
    path = tmp_path / "a.xlsx"
    rows = [("a", "USD", 10, HOUR, 0, 0), ("b", "EUR", 5, HOUR, 0, 0), ("c", "USD", 20, 2 * HOUR, 0, 0)]
    sheet = book(path, *rows)["Totals"]
    assert [cell.value for cell in sheet[1]] == ["currency", "amount", "gb_hours"]
    assert [cell.value for cell in sheet[3]] == [
        "USD",
        "=SUMIF('sample'!$B$2:$B$4,$A3,'sample'!$C$2:$C$4)",
        "=SUMIF('sample'!$B$2:$B$4,$A3,'sample'!$D$2:$D$4)",
    ]
    shown = openpyxl.load_workbook(path, data_only=True)["Totals"]
    assert [[cell.value for cell in row] for row in shown.iter_rows(min_row=2)] == [["EUR", 0.05, 1], ["USD", 0.3, 3]]
    assert shown["B3"].number_format == "#,##0.00"


def test_totals_count_what_stands_as_text(tmp_path: Path) -> None:
    """A number too long for a double, and rows of which nobody knows the currency; its digits need no decimal point."""
    path = tmp_path / "a.xlsx"
    long = 12_345_678 * HOUR + HOUR // 10**9
    rows = [("a", "USD", 10**17 + 1, long, 0, 0), ("b", "USD", 1, HOUR, 0, 0), ("c", None, None, long, 0, 0)]
    sheet = book(path, *rows)["Totals"]
    where, amounts, hours = (f"'sample'!${letter}$2:${letter}$4" for letter in "BCD")
    formulas = [[getattr(cell.value, "text", cell.value) for cell in row] for row in sheet.iter_rows(min_row=2)]
    assert formulas == [
        [
            "",
            f'=SUMIF({where},"=",{amounts})',
            f'=SUMIF({where},"=",{hours})'
            f'+SUM(IF(ISTEXT({hours})*({where}=""),VALUE(SUBSTITUTE({hours},".",""))/10^9,0))',
        ],
        [
            "USD",
            f"=SUMIF({where},$A3,{amounts})"
            f'+SUM(IF(ISTEXT({amounts})*({where}=$A3),VALUE(SUBSTITUTE({amounts},".",""))/10^2,0))',
            f"=SUMIF({where},$A3,{hours})"
            f'+SUM(IF(ISTEXT({hours})*({where}=$A3),VALUE(SUBSTITUTE({hours},".",""))/10^9,0))',
        ],
    ]
    shown = openpyxl.load_workbook(path, data_only=True)["Totals"]
    assert [cell.value for cell in shown["C"][1:]] == [12345678.000000001, 12345679.000000001]


def test_a_balance_is_not_added_up(tmp_path: Path) -> None:
    """It stands on each of a forecast's months."""
    kinds = {"currency": "text", "balance": "money", "amount_to_date": "money"}
    columns = tuple(ReportColumn(name, kind, "") for name, kind in kinds.items())
    rows = pa.table({"currency": ["USD"] * 2, "balance": [500] * 2, "amount_to_date": [7, 8]})
    write(Asked(Report("forecast", "one month", columns), rows, 10**9, ABOUT), "xlsx", str(tmp_path / "a.xlsx"))
    sheet = openpyxl.load_workbook(tmp_path / "a.xlsx")["Totals"]
    assert [cell.value for cell in sheet[1]] == ["currency", "amount_to_date"]


def test_the_first_sheet_says_what_it_is(tmp_path: Path) -> None:
    """What, when, of what, with which filter, and what every column holds."""
    sheet = book(tmp_path / "a.xlsx", ("a", "USD", 1, 1, 1, 1)).worksheets[0]
    said = {row[0].value: row[1].value for row in sheet.iter_rows()}
    assert said["report"] == "sample: one row"
    assert (said["made at"], said["filter"], said["rows"]) == ("2026-06-01T08:00:00Z", "none", "1")
    assert said["amount"] == "Money."
    assert "15 significant digits" in said["numbers"]


def test_no_text_becomes_a_formula_or_a_link(tmp_path: Path) -> None:
    """Names of customers stay names, and a text longer than a cell says that it is cut."""
    names = ["=1+1", "+1", "-1", "@x", "http://example.com", "=cmd|' /C calc'!A0", "x" * 40_000]
    made = book(tmp_path / "a.xlsx", *((name, "USD", 1, 1, 1, 1) for name in names))
    cells = [row[0] for row in made["sample"].iter_rows(min_row=2)]
    assert [cell.value for cell in cells[:-1]] == names[:-1]
    assert {cell.data_type for cell in cells} == {"s"}
    assert {cell.hyperlink for cell in cells} == {None}
    assert len(cells[-1].value) == 32_767
    assert cells[-1].value.endswith("(cut; --format csv has all of it)")
    # An emoji is two of the units in which a cell counts, and none is cut in half.
    made = book(tmp_path / "b.xlsx", *((text, "USD", 1, 1, 1, 1) for text in ("😀" * 16_383, "😀" * 16_384)))
    whole, cut = (row[0].value for row in made["sample"].iter_rows(min_row=2))
    assert whole == "😀" * 16_383
    assert cut == "😀" * 16_365 + " … (cut; --format csv has all of it)"


def test_more_rows_than_a_sheet_holds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With advice, and without a file."""
    monkeypatch.setattr(xlsx, "MAX_ROWS", 3)
    book(tmp_path / "two.xlsx", *[("a", "USD", 1, 1, 1, 1)] * 2)
    with pytest.raises(UsageError, match="3 rows; a worksheet holds 2") as refused:
        book(tmp_path / "three.xlsx", *[("a", "USD", 1, 1, 1, 1)] * 3)
    assert "--format parquet" in refused.value.remedy
    assert not (tmp_path / "three.xlsx").exists()


def test_the_same_question_makes_the_same_bytes(home: Home) -> None:
    """Asked twice at one engine time, a workbook is the same; another time is another workbook."""
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    home.accounts("acc-1,USD,10,pm_card_visa")
    home.events("2026-05-01 ready s1 gb=100")
    home.run("close")
    paths = [home.path / name for name in ("a.xlsx", "b.xlsx", "c.xlsx")]
    for path, now in zip(paths, (None, None, "2026-06-02T00:00:00Z"), strict=True):
        home.run("report", "invoices", "--month", "2026-05", "--format", "xlsx", "--output", str(path), now=now)
    assert paths[0].read_bytes() == paths[1].read_bytes() != paths[2].read_bytes()
    made = openpyxl.load_workbook(paths[0])
    said = {row[0].value: row[1].value for row in made["Read me"].iter_rows()}
    assert (said["filter"], said["closed"]) == ("months: 2026-05 to 2026-05", "up to 2026-05")
    assert made["invoices"]["G2"].value == 81.84
    assert made.properties.created == datetime(2026, 6, 1, 8)  # noqa: DTZ001


def test_every_report_fits_a_workbook(home: Home) -> None:
    """Also without a row, and one without money."""
    for name in ("invoices", "usage", "statement", "quarantine", "idle", "forecast"):
        path = home.path / f"{name}.xlsx"
        home.run("report", name, "--format", "xlsx", "--output", str(path))
        assert openpyxl.load_workbook(path).sheetnames == ["Read me", name]


def test_money_is_a_number_only_where_a_double_holds_it() -> None:
    """15 significant digits, wherever the point stands and whatever zeros surround them."""
    digits = xlsx._digits
    assert [digits(Decimal(text)) for text in ("0.05", "100.00", "1E-9", "-12.345", "0")] == [1, 1, 1, 5, 0]
    assert digits(123456789012345) == 15
