"""An invoice comes out of its stored inputs again, whatever came later; and what was known then stays known."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from homes import Home, begun

from metering.close import run
from metering.lake import Lake
from metering.values import Month

ACCOUNTS = ("acc-1,USD,10,pm_card_visa", "acc-2,EUR,0,pm_card_visa")
PRICES = ("snapshot.vm,,USD,0.001,2026-01-01,", "snapshot.vm,,EUR,0.002,2026-01-01,")
MAY = """
2026-05-02T10 ready a1 acc=acc-1 gb=1000
2026-05-02T12 resized a1 gb=2000
2026-05-02T20 deleted a1
2026-05-02T10 ready b1 acc=acc-2 gb=1000
2026-05-02T15 deleted b1
"""
"""a1: 2 h × 1,000 GB + 8 h × 2,000 GB = 18,000 GB-h × 0.001 = 18.00; b1: 5,000 GB-h × 0.002 = 10.00."""
FIRST = "INV-2026-05-000001"


@begun
def with_may_closed(home: Home) -> None:
    home.prices(*PRICES)
    home.accounts(*ACCOUNTS)
    home.events(MAY, "may.jsonl")
    home.run("close", "2026-05")


@pytest.fixture
def closed(tmp_path: Path) -> Home:
    """A home with May closed."""
    return with_may_closed(tmp_path / "home")


def explanations(home: Home, *numbers: str) -> dict[str, str]:
    """What explain prints about invoices; it must find each identical."""
    return {number: home.run("explain", number).stdout for number in numbers}


DECISIONS = {
    "void": ("void", "INV-2026-05-000001", "--rebill"),
    "reprice": ("prices", "reprice", "2026-05", "--reason", "r"),
}


@pytest.mark.parametrize("decision", DECISIONS)
def test_a_decision_between_two_months_of_one_close(home: Home, decision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """June counts what was decided after May was closed, though the run that closes both began before it."""
    home.prices(*PRICES)
    home.accounts(*ACCOUNTS)
    home.file("metering.toml", '[billing]\nstart = "2026-05"\n')
    home.events(f"{MAY}\n2026-06-02T10 ready a2 acc=acc-1 gb=1000\n2026-06-02T12 deleted a2", "may.jsonl")
    finish = run._finish

    def then_decide(opened: run.Home, this: run.Run, month: Month, *rest: Any) -> int:
        code = finish(opened, this, month, *rest)
        if str(month) == "2026-05":
            if decision == "reprice":
                home.prices("snapshot.vm,,USD,0.0005,2026-01-01,", PRICES[1])
            home.run(*DECISIONS[decision])
        return code

    monkeypatch.setattr(run, "_finish", then_decide)
    home.now = "2026-07-01T08:00:00Z"
    home.run("close")
    # a1 of 18,000 GB-h is billed again at 0.001 (the void), or comes to 9.00 instead (the reprice).
    again = {"void": "18.00", "reprice": "-9.00"}[decision]
    lines = home.report("invoice-lines", "--account", "acc-1", "--month", "2026-06")
    assert sum(Decimal(line["amount"]) for line in lines if line["kind"] == "adjustment") == Decimal(again)
    explanations(home, *home.column("invoices", "invoice"))
    home.run("verify")


def test_the_arithmetic_is_shown(closed: Home) -> None:
    said = closed.run("explain", FIRST).stdout
    for part in (
        "a1        2026-05-02T10:00:00Z  2026-05-02T12:00:00Z  1000000000000",
        "a1        2026-05-02T12:00:00Z  2026-05-02T20:00:00Z  2000000000000",
        "18000.000000000 GB-hours × 0.001 = 18.000000000000 → 18.00 USD",
        "10 % of 18.00 (usage)",
        "19.80 USD",
        "identical",
    ):
        assert part in said, said


def test_nothing_that_comes_later_changes_an_explanation(closed: Home) -> None:
    numbers = [FIRST, "INV-2026-05-000002"]
    before = explanations(closed, *numbers)

    closed.now = "2026-06-10T08:00:00Z"
    closed.events("2026-05-02T11 deleted a1\n2026-05-09T10 ready c1 acc=acc-1 gb=5\n2026-06-01 ready a2 acc=acc-1")
    closed.run("ingest")
    assert explanations(closed, *numbers) == before, "late events"

    closed.accounts("acc-1,USD,20,pm_card_chargeDeclined", "acc-0,USD,0,pm_card_visa")
    assert explanations(closed, *numbers) == before, "another tax rate, and an account that sorts first"

    closed.prices("snapshot.vm,,USD,0.0005,2026-01-01,", PRICES[1])
    assert explanations(closed, *numbers) == before, "other prices"
    closed.run("prices", "reprice", "2026-05", "--reason", "r")
    assert explanations(closed, *numbers) == before, "a reprice"

    closed.run("void", "INV-2026-05-000002", "--rebill")
    closed.run("credit-note", FIRST, "--amount", "1", "--reason", "r")
    assert explanations(closed, *numbers) == before, "a void and a credit note"

    closed.now = "2026-07-01T08:00:00Z"
    closed.run("close", exit_code=None)
    later = closed.column("invoices", "invoice", "--month", "2026-06")
    assert len(later) == 2
    assert explanations(closed, *numbers) == before, "the next close"

    with_june = explanations(closed, *numbers, *later)
    closed.now = "2026-08-02T08:00:00Z"
    closed.prices(*PRICES)
    for month in ("2026-05", "2026-06"):
        closed.run("prices", "reprice", month, "--reason", "back")
    closed.run("void", later[1], "--rebill")
    closed.events("2026-06-05 deleted a2", "july.jsonl")
    closed.run("close", exit_code=None)
    assert explanations(closed, *numbers, *later) == with_june, "two closes later"
    closed.run("verify")


def test_one_line(closed: Home) -> None:
    said = closed.run("explain", FIRST, "--line", "1").stdout
    assert "Line 1: usage 2026-05" in said
    assert "Total" not in said
    closed.run("explain", FIRST, "--line", "2", exit_code=2)
    closed.run("explain", FIRST, "--line", "0", exit_code=2)
    closed.run("explain", "INV-2026-05-000009", exit_code=2)
    closed.run("explain", exit_code=2)
    closed.run("explain", FIRST, "--snapshot", "a1", exit_code=2)


def test_the_lines_of_a_snapshot(closed: Home) -> None:
    """a1 was deleted after one hour: its 18,000 GB-h become 1,000, in June's invoice."""
    closed.now = "2026-07-01T08:00:00Z"
    closed.events("2026-05-02T11 deleted a1", "late.jsonl")
    closed.run("close")
    said = closed.run("explain", "--snapshot", "a1", "--format", "csv").stdout.splitlines()
    assert said[1:] == [
        f"{FIRST},1,usage,2026-05,acc-1,prj-1,18000.000000000,0.001,USD,18.00",
        "INV-2026-06-000001,1,adjustment,2026-05,acc-1,prj-1,-17000.000000000,0.001,USD,-17.00",
    ]
    adjusted = closed.run("explain", "INV-2026-06-000001").stdout
    assert "billed before: 18000.000000000 GB-hours, 18.00 USD" in adjusted
    assert "on the invoice: -17000.000000000 GB-hours, -17.00 USD" in adjusted
    assert closed.run("explain", "--snapshot", "none", "--format", "csv").stdout.splitlines() == said[:1]


EVENTS_OF_S = """
2026-05-02T10 ready s acc=acc-1 gb=7 res=vm-1 id=e1
2026-05-02T11 ready s acc=acc-1 gb=9 res=vm-2 id=e2
2026-05-03T10 resized s gb=8 id=e3
2026-05-04T10 vm-deleted vm-1 id=e4
2026-05-05T10 vm-deleted vm-9 id=e5
2026-05-05T11 ready other gb=1 res=vm-1 id=e6
2026-05-06T10 retracted why id=e7 retracted_source=/compute retracted_id=e2
2026-05-06T11 retracted why id=e8 retracted_source=/compute retracted_id=e6
2026-05-07T10 retracted twice id=e9 retracted_source=/compute retracted_id=e2
2026-05-07T11 vm-deleted s id=e10
"""


def test_the_events_of_a_snapshot(home: Home) -> None:
    """Its own, its VM's deletion, what takes them back; the raw line of each is where batch and seq say."""
    home.events(EVENTS_OF_S)
    home.run("ingest", exit_code=None)
    home.events("2026-05-08T10 deleted s id=e11", "later.jsonl")
    home.run("ingest", exit_code=None)
    found = json.loads(home.run("explain", "--snapshot", "s", "--events", "--format", "json").stdout)
    assert [(row["id"], row["counts"]) for row in found] == [
        ("e1", "yes"),
        ("e2", "no"),
        ("e3", "yes"),
        ("e4", "yes"),
        ("e7", "yes"),
        ("e9", "yes"),
        ("e11", "yes"),
    ]
    lines = {(line["batch"], line["seq"]): json.loads(line["raw"])["id"] for line in raw_lines(home)}
    assert [lines[row["batch"], row["seq"]] for row in found] == [row["id"] for row in found]
    assert (found[0]["size_bytes"], found[0]["resource_id"], found[4]["retracted_id"]) == (7_000_000_000, "vm-1", "e2")
    assert home.run("explain", "--snapshot", "none", "--events", "--format", "csv").stdout.count("\n") == 1
    home.run("explain", "INV-2026-05-000001", "--events", exit_code=2)


def raw_lines(home: Home) -> list[dict[str, Any]]:
    """Every raw line of the lake, with its batch and number."""
    lake = Lake(home.path / "lake")
    return [row for batch in lake.manifest().batches for table in lake.raw_lines(batch) for row in table.to_pylist()]


def tampered(home: Home, sentence: str) -> None:
    """Change the ledger behind its back."""
    with closing(sqlite3.connect(home.path / "ledger.db")) as con:
        for (name,) in con.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            con.execute(f"DROP TRIGGER {name}")
        con.execute(sentence)
        con.commit()


@pytest.mark.parametrize(
    "sentence",
    [
        f"UPDATE invoice_lines SET amount_minor = 1801 WHERE invoice = '{FIRST}'",
        f"UPDATE invoice_lines SET byte_micros = '1' WHERE invoice = '{FIRST}'",
        f"UPDATE invoice_lines SET tax_minor = 0 WHERE invoice = '{FIRST}'",
        f"DELETE FROM invoice_lines WHERE invoice = '{FIRST}'",
        f"UPDATE invoices SET total_minor = total_minor + 1 WHERE invoice = '{FIRST}'",
        "UPDATE price_lists SET price_per_gb_hour = '0.002' WHERE currency = 'USD'",
        "UPDATE account_versions SET tax_rate = '11' WHERE account_id = 'acc-1'",
        "UPDATE closes SET period_end = period_end - 86400000000 * 30",
        "DELETE FROM close_accounts WHERE account_id = 'acc-1'",
    ],
)
def test_a_changed_ledger_is_told(closed: Home, sentence: str) -> None:
    tampered(closed, sentence)
    assert "NOT IDENTICAL" in closed.run("explain", FIRST, exit_code=3).stdout


def events_file(home: Home) -> Path:
    (path,) = (home.path / "lake" / "events").glob("*.parquet")
    return path


def test_changed_events_are_told(closed: Home) -> None:
    path = events_file(closed)
    table = pq.read_table(path)
    sizes = pc.add(table["size_bytes"], 10**9)
    pq.write_table(table.set_column(table.column_names.index("size_bytes"), "size_bytes", sizes), path)
    assert "NOT IDENTICAL" in closed.run("explain", FIRST, exit_code=3).stdout
    closed.run("verify", exit_code=3)


def test_events_that_are_gone_are_told(closed: Home) -> None:
    path = events_file(closed)
    table = pq.read_table(path)
    pq.write_table(table.filter(pa.array(name != "a1" for name in table["subject"].to_pylist())), path)
    assert "NOT IDENTICAL" in closed.run("explain", FIRST, exit_code=3).stdout


def test_usage_as_of_a_batch_stays_the_same(closed: Home) -> None:
    """Each batch's view of an ended month, before and after the later batches."""
    late = [
        "2026-05-02T11 deleted a1",
        "2026-05-03T10 ready c1 acc=acc-1 gb=7\n2026-05-04T10 deleted c1",
        "2026-06-03T10 retracted x retracted_source=/compute retracted_id=a1/deleted/2026-05-02T11:00:00",
        "2026-05-02T10 ready d1 acc=acc-9 gb=1\n2026-05-20T10 vm-deleted vm-of-d1",
    ]
    closed.now = "2026-06-10T08:00:00Z"
    seen: dict[tuple[int, str], list[dict[str, str]]] = {}
    for batch, text in enumerate([None, *late], 1):
        if text:
            closed.events(text, f"late-{batch}.jsonl")
            closed.run("ingest")
        for by in ("account", "snapshot", "day"):
            rows = closed.report("usage", "--month", "2026-05", "--by", by)
            seen[batch, by] = closed.report("usage", "--month", "2026-05", "--by", by, "--as-of", str(batch))
            assert seen[batch, by] == rows
    hours = [[row["gb_hours"] for row in seen[batch, "account"]] for batch in range(1, 6)]
    assert hours == [
        ["18000.000000000", "5000.000000000"],
        ["1000.000000000", "5000.000000000"],
        ["1168.000000000", "5000.000000000"],
        ["18168.000000000", "5000.000000000"],
        ["18168.000000000", "5000.000000000", "432.000000000"],
    ]
    closed.now = "2026-09-10T08:00:00Z"
    closed.run("close", exit_code=None)
    for (batch, by), rows in seen.items():
        assert closed.report("usage", "--month", "2026-05", "--by", by, "--as-of", str(batch)) == rows
    assert closed.report("usage", "--month", "2026-05", "--as-of", "0") == []
    for wrong in ("6", "-1"):
        closed.run("usage", "--as-of", wrong, exit_code=2)


def test_billed_and_known_usage(closed: Home) -> None:
    """A late deletion shows as a difference until the next close has adjusted it."""
    assert closed.report("usage-difference") == []
    closed.now = "2026-06-10T08:00:00Z"
    closed.events("2026-05-02T11 deleted a1\n2026-05-03T10 ready c1 acc=acc-1 gb=7\n2026-05-04T10 deleted c1")
    closed.run("ingest")
    billed = closed.report("usage", "--billed", "--month", "2026-05")
    assert [(row["account_id"], row["gb_hours"], row["snapshots"]) for row in billed] == [
        ("acc-1", "18000.000000000", "1"),
        ("acc-2", "5000.000000000", "1"),
    ]
    assert closed.report("usage-difference") == [
        {
            "month": "2026-05",
            "account_id": "acc-1",
            "gb_hours_billed": "18000.000000000",
            "gb_hours_known": "1168.000000000",
            "gb_hours_difference": "-16832.000000000",
        }
    ]
    closed.now = "2026-07-01T08:00:00Z"
    closed.run("close")
    assert closed.report("usage-difference") == []
    for by in ("account", "project", "snapshot"):
        known = closed.report("usage", "--month", "2026-05", "--by", by)
        assert closed.report("usage", "--month", "2026-05", "--by", by, "--billed") == known
    closed.run("usage", "--billed", "--by", "day", exit_code=2)
    closed.run("usage", "--billed", "--as-of", "1", exit_code=2)
