"""Formats: exact, in order, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import io
import json

import pyarrow as pa

from metering.reports.catalog import Report, ReportColumn
from metering.reports.exact import typed
from metering.reports.render import Asked, rows_of, write

REPORT = Report(
    "sample",
    "one row",
    (
        ReportColumn("name", "text", ""),
        ReportColumn("currency", "text", ""),
        ReportColumn("amount", "money", ""),
        ReportColumn("gb_hours", "gb_hours", ""),
        ReportColumn("at", "instant", ""),
    ),
)
HOUR = 10**9 * 3_600_000_000


def table(*rows: tuple[str | None, str, int, int, int | None]) -> pa.Table:
    """Rows as a report's SQL gives them: minor units, byte-microseconds, microseconds."""
    kinds = (pa.string(), pa.string(), pa.int64(), pa.decimal128(38, 0), pa.int64())
    columns = [pa.array([row[i] for row in rows], kind) for i, kind in enumerate(kinds)]
    return pa.table(columns, names=[column.name for column in REPORT.columns])


def test_values_print_exactly() -> None:
    """Money in major units of its row's currency, usage with 9 decimals, time in UTC, nothing for what is missing."""
    rows = table(
        ("a", "USD", -5, HOUR // 2, 0),
        ("b", "JPY", 5, -HOUR, None),
        (None, "KWD", 5, 3 * HOUR // 10**9, 1),
    )
    assert list(rows_of(REPORT, rows, 10**9)) == [
        ["a", "USD", "-0.05", "0.500000000", "1970-01-01T00:00:00Z"],
        ["b", "JPY", "5", "-1.000000000", None],
        [None, "KWD", "0.005", "0.000000003", "1970-01-01T00:00:00.000001Z"],
    ]


def printed(format: str, rows: pa.Table, capsys: object) -> str:
    """What a format prints."""
    write(Asked(REPORT, rows, 10**9, {}), format, None)
    return capsys.readouterr().out  # type: ignore[attr-defined]


def test_formulas_are_neutralised_in_csv(capsys: object) -> None:
    """A text that a spreadsheet would calculate gets a quote before it; numbers do not."""
    names = ["=1+1", "+1", "-1", "@x", "\n=1", "\uff1d1+1", "plain", "-", "a;=1;b", 'a; "@1', "a;b-c"]
    text = printed("csv", table(*((name, "USD", -100, 0, None) for name in names)), capsys)
    read = list(csv.DictReader(io.StringIO(text)))
    assert [row["name"] for row in read] == [
        "'=1+1",
        "'+1",
        "'-1",
        "'@x",
        "'\n=1",
        "'\uff1d1+1",
        "plain",
        "-",
        "a;'=1;b",
        """a; "'@1""",
        "a;b-c",
    ]
    assert {row["amount"] for row in read} == {"-1.00"}


def test_a_table_stands_straight_whatever_it_says(capsys: object) -> None:
    """A Chinese character takes two columns of a terminal, an accent of its own none."""
    rows = table(*((name, "USD", 1, 0, None) for name in ("plain", "云存储", "cafe\u0301", "مرحبا")))
    shown = printed("table", rows, capsys).splitlines()
    assert [line.partition("  ")[0] for line in shown[2:]] == ["plain", "云存储", "cafe\u0301", "مرحبا"]
    # The widest takes 6 columns, and two part it from the next: 4, 2, 4 (of 5 characters) and 3 spaces.
    assert [line.index("USD") for line in shown[2:]] == [8, 5, 9, 8]


def test_what_parts_fields_or_lines_is_quoted_in_csv(capsys: object) -> None:
    """A carriage return alone ends a line for strict readers."""
    names = ['say "x"', "a,b", "a\nb", "a\rb", "a;b", " a ", ""]
    text = printed("csv", table(*((name, "USD", 1, 0, None) for name in names)), capsys)
    assert text == "name,currency,amount,gb_hours,at\n" + "".join(
        f"{name},USD,0.01,0.000000000,\n" for name in ('"say ""x"""', '"a,b"', '"a\nb"', '"a\rb"', "a;b", " a ", "")
    )


def test_a_table_commands_no_terminal(capsys: object) -> None:
    """What moves the cursor or turns text around is written as its code; files have it as it came."""
    names = ["\x1b]0;title\a\x1b[2J", "\u202egnp.exe", "a\rb\nc", "云 é"]
    rows = table(*((name, "USD", 1, 0, None) for name in names))
    shown = printed("table", rows, capsys).splitlines()[2:]
    assert [line.split("  ")[0] for line in shown] == [
        "[U+001B]]0;title[U+0007][U+001B][2J", "[U+202E]gnp.exe", "a[U+000D]b[U+000A]c", "云 é",
    ]  # fmt: skip
    assert [row["name"] for row in json.loads(printed("json", rows, capsys))] == names


def test_json_is_one_array_with_null(capsys: object) -> None:
    """Missing values are null, money and usage are strings."""
    found = json.loads(printed("json", table((None, "USD", 1, HOUR, None)), capsys))
    assert found == [{"name": None, "currency": "USD", "amount": "0.01", "gb_hours": "1.000000000", "at": None}]
    assert json.loads(printed("json", table(), capsys)) == []


def test_typed_values_stay_exact() -> None:
    """Parquet and pandas get decimals, not floats."""
    made = typed(REPORT, table(("a", "USD", 10**15 + 1, 1, 0)), 10**9)
    assert made.schema.field("amount").type == pa.decimal128(38, 3)
    assert str(made.column("amount")[0].as_py()) == "10000000000000.010"
