"""Reports of finance against the book and against the invoices that follow."""

from __future__ import annotations

import io
import sys
from decimal import Decimal
from fractions import Fraction

import pyarrow as pa
import pytest
from homes import Home

from metering import open_home
from metering.cli import finance
from metering.reports import render
from metering.reports.catalog import Report, ReportColumn, reports


def test_revenue_is_the_ledgers(home: Home) -> None:
    """Invoices, an adjustment, a void to be rebilled and a credit note: revenue and the ledger account agree."""
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,", "snapshot.vm,,EUR,0.001,2026-01-01,")
    home.accounts("acc-1,USD,10,pm_card_visa", "acc-2,USD,0,pm_card_chargeDeclined", "acc-e,EUR,21,pm_card_visa")
    home.events("2026-05-01 ready s1 gb=100\n2026-05-01 ready s2 acc=acc-2 gb=50\n2026-05-09 ready e1 acc=acc-e gb=7")
    home.run("close", exit_code=3)
    home.run("void", "INV-2026-05-000002", "--rebill")
    home.run("credit-note", "INV-2026-05-000001", "--amount", "5.00", "--reason", "goodwill")
    home.events("2026-05-20 deleted s1", "late.jsonl")
    home.now = "2026-07-01T08:00:00Z"
    home.run("close", exit_code=3)
    revenue = home.report("revenue")
    for currency in ("USD", "EUR"):
        booked = sum(
            Decimal(row["credit"]) - Decimal(row["debit"])
            for row in home.report("ledger")
            if row["ledger_account"] == "revenue" and row["currency"] == currency
        )
        assert sum(Decimal(row["amount"]) for row in revenue if row["currency"] == currency) == booked != 0
    for invoices in (home.report("invoices", "--month", month) for month in ("2026-05", "2026-06")):
        month = invoices[0]["month"]
        assert sum(Decimal(row["tax"]) for row in revenue if row["booked_month"] == month) == sum(
            Decimal(row["tax"]) for row in invoices
        )


def test_what_a_month_will_take_is_not_there_for_the_next(home: Home) -> None:
    """10 GB: 744, 720 and 744 hours cost 7.44, 7.20 and 7.44; 8.00 of credit pay first, then 5.00 of balance."""
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    home.accounts("acc-1,USD,0,pm_card_visa")
    home.funds("acc-1,credit,8.00,USD,welcome,", "acc-1,topup,5.00,USD,paid,")
    home.events("2026-05-01 ready s1 gb=10")
    home.run("ingest")
    rows = home.report("forecast", "--now", "2026-07-02T08:00:00Z")
    assert [(row["month"], row["amount_forecast"], row["balance"], row["card_forecast"]) for row in rows] == [
        ("2026-05", "7.44", "5.00", "0.00"),
        ("2026-06", "7.20", "5.00", "1.64"),
        ("2026-07", "7.44", "0.00", "7.44"),
    ]


def test_who_is_forecast(home: Home) -> None:
    """acc-0 and the unknown acc-8 have used nothing since; acc-1 pays 720 hours of 10 GB and a carried day."""
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    home.accounts("acc-0,USD,0,pm_card_visa", "acc-1,USD,0,pm_card_visa")
    ended = "\n".join(f"2026-05-01 ready {who} acc={who} gb=10\n2026-05-02 deleted {who}" for who in ("acc-0", "acc-8"))
    home.events(f"{ended}\n2026-05-31 ready s1 gb=10\n2026-05-31 ready s9 acc=acc-9 gb=10")
    home.run("close", exit_code=3)
    rows = home.report("forecast", "--now", "2026-06-02T00:00:00Z")
    assert [list(row.values())[1:] for row in rows] == [
        ["acc-1", "USD", "240.000000000", "7200.000000000", "0.24", "7.20", "0.00", "7.44"],
        ["acc-9", "", "240.000000000", "7200.000000000", "", "", "", ""],
    ]


def test_what_a_correction_gives_back_before_another_month(home: Home) -> None:
    """May's 74.40 become 36.00: 38.40 go back in June, to an open invoice or as they were paid.

    acc-1: nothing is paid, so what comes back is set aside for May, and July's 7.44 are the card's. acc-2: 24.40 of the
    card's come back as balance and 14.00 as a credit that has lapsed by July, so the card pays 29.76 - 24.40.
    """
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    home.accounts("acc-1,USD,0,pm_card_chargeDeclined", "acc-2,USD,0,pm_card_visa")
    home.funds("acc-2,credit,50.00,USD,short,2026-06-15")
    home.events("2026-05-01 ready s1 gb=100\n2026-05-01 ready s2 acc=acc-2 gb=100")
    home.run("close", exit_code=3)
    home.events(
        "2026-05-16 deleted s1\n2026-05-16 deleted s2\n2026-07-01 ready s3 gb=10\n2026-07-01 ready s4 acc=acc-2 gb=40",
        "late.jsonl",
    )
    home.now = "2026-08-01T08:00:00Z"
    home.run("ingest")
    rows = home.report("forecast", "--month", "2026-07")
    told = [(row["account_id"], row["balance"], row["card_forecast"]) for row in rows]
    assert told == [("acc-1", "0.00", "7.44"), ("acc-2", "24.40", "5.36")]
    home.run("close", exit_code=3)
    assert home.column("payments", "amount", "--month", "2026-07") == ["7.44", "5.36"]


def test_the_largest_snapshot_at_a_price_of_twelve_places(home: Home) -> None:
    """Its bytes × microseconds × price have more digits than the engine multiplies."""
    home.prices("snapshot.vm,,USD,0.000071234567,2026-01-01,", "snapshot.vm,,USD,0.1,2026-06-01,")
    home.accounts("acc-1,USD,10,pm_card_visa")
    large, small = Fraction(2**63 - 1, 10**9), Fraction(10**15 + 1, 10**9)
    lines = f"2026-05-01 ready s1 bytes={2**63 - 1}", f"2026-06-06 resized s1 bytes={10**15 + 1}"
    home.events("\n".join((*lines, lines[0].replace("s1", "s2"))))
    home.run("ingest")
    home.now = "2026-06-16T00:00:00Z"
    may, june = 744 * Fraction(71234567, 10**12), Fraction(1, 10)
    costs = [large * (may + 360 * june), large * 720 * june]
    costs += [large * (may + 120 * june) + small * 240 * june, small * 720 * june]
    told = [row[name] for row in home.report("idle", "--days", "30") for name in ("cost_to_date", "cost_per_month")]
    assert [Fraction(cost) for cost in told] == [Fraction(round(cost * 100), 100) for cost in costs]


def test_what_forgotten_snapshots_have_cost_at_prices_that_change(home: Home) -> None:
    """No price before May 11, 0.001 up to June 11, 0.002 now; the last one is still to come.

    s1: 100 GB for 744 hours of the first and 48 of the second, then 200 GB for 72: 74.40 + 9.60 + 28.80. s2: 10 GB for
    516 and 120 hours: 5.16 + 2.40. June has 720 hours.
    """
    prices = "0.001,2026-05-11,", "0.002,2026-06-11,", "0.5,2026-06-25,"
    home.prices(*(f"snapshot.vm,,USD,{price}" for price in prices))
    home.accounts("acc-1,USD,10,pm_card_visa")
    home.events("2026-05-01 ready s1 gb=100\n2026-06-13 resized s1 gb=200\n2026-05-20T12:00:00 ready s2 gb=10")
    home.run("ingest")
    home.now = "2026-06-16T00:00:00Z"
    told = [tuple(row.values())[-2:] for row in home.report("idle", "--days", "20")]
    assert told == [("112.80", "288.00"), ("7.56", "14.40")]


def test_a_month_at_a_high_price_of_twelve_places(home: Home) -> None:
    """What a byte costs is a fraction of more than 64 bits: 7 GB for 15 days so far, and for the 30 of June."""
    home.prices("snapshot.vm,,USD,1234567.890123456789,2026-06-01,")
    home.accounts("acc-1,USD,10,pm_card_visa")
    home.events("2026-06-01 ready s1 gb=7")
    home.run("ingest")
    home.now = "2026-06-16T00:00:00Z"
    (told,) = home.report("idle", "--days", "10")
    assert (told["cost_to_date"], told["cost_per_month"]) == ("3111111083.11", "6222222166.22")


def test_days_and_filters_belong_to_their_reports(home: Home) -> None:
    """An option of another report is refused, and so is a report that needs more than a filter."""
    for args, told in {
        ("invoices", "--days", "3"): "--days belongs to the report `idle`",
        ("idle", "--by", "day"): "belong to the report `usage`",
        ("idle", "--days", "-1"): "",
        ("simulation",): "metering simulate",
        ("forecats",): "The reports are: ",
    }.items():
        assert told in home.run("report", *args, exit_code=2).stderr


def test_what_stands_now_is_not_told_under_the_name_of_a_month(home: Home) -> None:
    """All of it is told, and that the filter says nothing of it."""
    now = "says how things stand now, and knows no months: all of it follows."
    for args, told in {
        ("balances", "--month", "2026-05"): f"`balances` {now}",
        ("idle", "--to", "2026-05"): f"`idle` {now}",
        ("runs", "--account", "acc-1"): "`runs` is about no account: all of it follows.",
        ("invoices", "--month", "2026-05"): "",
    }.items():
        asked = home.run("report", *args, "--format", "json")
        assert asked.stderr.strip() == told
        assert not told or asked.stdout == home.run("report", args[0], "--format", "json").stdout
    with pytest.warns(UserWarning, match="knows no months"):
        open_home(home.path, now=home.now).report("balances", month="2026-05")


def test_a_wide_table_keeps_every_digit(home: Home) -> None:
    """A table wider than the terminal is not squeezed: figures of 20 digits stand whole, long texts may fold."""
    home.prices("snapshot.vm,,USD,0.000000000001,2026-01-01,")
    home.accounts("acc-1,USD,0,pm_card_visa")
    home.events("2026-05-01 ready s1 bytes=9007199254740993")
    home.run("close")
    shown = home.run("report", "invoice-lines", "--format", "table").stdout
    assert "6701356245.527298792" in shown
    assert "INV-2026-05-000001" in shown
    assert len(shown.splitlines()) == 3


@pytest.mark.parametrize("width", [100, 160])
def test_only_long_texts_are_folded(home: Home, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Numbers of documents and instants stand in one piece; a sentence is folded where that helps."""
    monkeypatch.setenv("COLUMNS", str(width))
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    home.accounts("acc-1,USD,0,pm_card_chargeDeclined")
    home.events("2026-05-01T00:00:00.123456 ready s1 gb=1000\n2026-05-02 deleted never-ready")
    home.run("close", exit_code=3)
    payments = home.run("report", "payments", "--format", "table").stdout
    assert "PAY-2026-05-000001-1" in payments
    assert "INV-2026-05-000001" in payments
    anomalies = home.run("report", "anomalies", "--format", "table").stdout
    assert "2026-05-02T00:00:00Z" in anomalies
    assert len(anomalies.splitlines()) > 3
    assert max(map(len, anomalies.splitlines())) <= width


class Terminal(io.StringIO):
    """What is written to it is looked at."""

    def isatty(self) -> bool:
        return True


def test_a_narrow_terminal_gets_a_value_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no folding helps; wide enough, or not a terminal, it is a table."""
    names = ("invoice", "total", "reference")
    columns = tuple(ReportColumn(name, kind, "") for name, kind in zip(names, ("text", "money", "text"), strict=True))
    report = Report("sums", "One row a sum.", columns)
    values = (["INV-2026-05-000001", "INV-2026-05-000002"], ["9007199254740993.00", "0.50"], ["=1+1", None])
    rows = pa.table([pa.array(value, pa.string()) for value in values], names=names)
    said = {}
    for width, file in ((40, Terminal()), (80, Terminal()), (40, io.StringIO())):
        monkeypatch.setenv("COLUMNS", str(width))
        render._write_table(report, rows, file)
        said[width, file.isatty()] = file.getvalue()
    assert said[40, True] == (
        "── 1 of 2 ──\ninvoice    INV-2026-05-000001\ntotal      9007199254740993.00\nreference  =1+1\n"
        "── 2 of 2 ──\ninvoice    INV-2026-05-000002\ntotal      0.50\nreference\n"
    )
    assert said[80, True] == said[40, False]
    assert said[80, True].splitlines()[0] == "invoice                           total  reference"


def test_the_dictionary_is_folded_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the text that is folded; elsewhere a line a row."""
    said = {}
    for file in (Terminal(), io.StringIO()):
        monkeypatch.setenv("COLUMNS", "40")
        monkeypatch.setattr(sys, "stdout", file)
        finance._echo_beside("  reference      text  ", "Names the money; unique.")
        said[file.isatty()] = file.getvalue()
    assert said[True] == "  reference      text  Names the money;\n                       unique.\n"
    assert said[False] == "  reference      text  Names the money; unique.\n"


def test_the_help_names_every_report(home: Home) -> None:
    """Also without a home; a report that needs more than a filter is not among them."""
    said = home.run("report", "--help").stdout
    listed = {line.split()[0] for line in said.partition("Reports, and")[2].splitlines() if line.startswith("  ")}
    assert {name for name in reports() if name != "simulation"} <= listed
    assert "simulation" not in listed
