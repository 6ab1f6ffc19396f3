"""What others know is held against the books, both ways, and each difference says what it costs."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from pathlib import Path

import pytest
from homes import Home, begun

from metering.clock import Clock
from metering.errors import MeteringError
from metering.home import Home as Engine
from metering.payments.gateway import NoAnswer, Order
from metering.payments.sandbox import Sandbox
from metering.reconcile.gateway import reconcile_gateway
from metering.values import parse_instant


@begun
def with_may_closed(home: Home) -> None:
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    home.accounts("acc-1,USD,0,pm_card_visa", "acc-2,USD,0,pm_card_chargeDeclined")
    home.events(
        """
        2026-05-02 ready one acc=acc-1 gb=1000
        2026-05-02T10 deleted one
        2026-05-02 ready two acc=acc-2 gb=1000
        2026-05-02T05 deleted two
        """
    )
    home.run("close", exit_code=3)


@pytest.fixture
def billed(tmp_path: Path) -> Home:
    """May is closed: acc-1 paid 10.00 by card, acc-2 was declined over 5.00."""
    return with_may_closed(tmp_path / "home")


def sandbox(home: Home, now: str = "2026-06-01T09:00:00Z") -> Sandbox:
    return Sandbox(home.path / "sandbox", lambda: parse_instant(now))


def differences(home: Home, *args: str, exit_code: int = 3) -> list[dict[str, str]]:
    done = home.run("reconcile", "gateway", "--format", "csv", *args, exit_code=exit_code)
    return list(csv.DictReader(io.StringIO(done.stdout)))


def told(rows: list[dict[str, str]]) -> list[tuple[str, str, str]]:
    return [(row["kind"], row["invoice"], row["cost"]) for row in rows]


def test_books_in_step_have_no_difference_and_nothing_is_written(billed: Home) -> None:
    before = billed.state()
    assert differences(billed, exit_code=0) == []
    assert billed.state() == before


def test_an_intent_that_the_ledger_does_not_know(billed: Home) -> None:
    gateway = sandbox(billed)
    made = gateway.create(Order("INV-2026-05-000009/1", "INV-2026-05-000009", "cus_x", "USD", 700), "k")
    gateway.confirm(made.ref, "pm_card_visa", "k2")
    assert told(differences(billed)) == [("unknown_intent", "INV-2026-05-000009", "7.00")]
    assert differences(billed, "--since", "2026-06-01T10:00:00Z", exit_code=0) == []
    assert told(differences(billed, "--since", "2026-06-01")) == [("unknown_intent", "INV-2026-05-000009", "7.00")]


def test_an_intent_that_arrived_late_is_told_until_somebody_cancels_it(billed: Home) -> None:
    gateway = sandbox(billed)
    made = gateway.create(Order("INV-2026-05-000001/1", "INV-2026-05-000001", "cus_x", "USD", 500), "late")
    assert told(differences(billed)) == [("unknown_intent", "INV-2026-05-000001", "0.00")]
    gateway.cancel(made.ref, "by hand")
    assert differences(billed, exit_code=0) == []


def test_a_success_that_is_not_recorded_and_a_card_refund_made_outside(billed: Home) -> None:
    refs = {row["invoice"]: row["gateway_ref"] for row in billed.report("payments")}
    gateway = sandbox(billed)
    gateway.confirm(refs["INV-2026-05-000002"], "pm_card_visa", "outside")
    refund = gateway.refund(refs["INV-2026-05-000001"], 250, "", "outside-refund")
    rows = differences(billed)
    assert told(rows) == [
        ("refund_unknown", "INV-2026-05-000001", "-2.50"),
        ("capture_unbooked", "INV-2026-05-000002", "5.00"),
    ]
    assert (rows[0]["gateway_ref"], rows[0]["there"], rows[0]["here"]) == (refund.ref, "2.50", "")


def test_refunds_of_ours_are_no_difference_until_they_differ(billed: Home) -> None:
    billed.run("refund", "PAY-2026-05-000001-1", "--amount", "3.00", "--to-card")
    assert differences(billed, exit_code=0) == []
    record = billed.path / "sandbox" / "refunds.jsonl"
    whole = record.read_text()
    record.write_text(whole.replace('"amount_minor":300', '"amount_minor":400'))
    assert told(differences(billed)) == [("refund_amount", "INV-2026-05-000001", "-1.00")]
    record.write_text("")
    assert told(differences(billed)) == [("refund_missing", "INV-2026-05-000001", "3.00")]


@pytest.mark.parametrize(
    ("field", "value", "kind", "cost"),
    [
        ("amount_minor", 999, "amount", "0.00"),
        ("captured_minor", 900, "captured", "-1.00"),
        ("currency", "EUR", "currency", "10.00"),
        ("customer", "cus_other", "customer", "0.00"),
        ("intent", "INV-2026-05-000001/9", "name", "0.00"),
        ("status", "cancelled", "capture_missing", "0.00"),
    ],
)
def test_what_differs_in_one_intent(billed: Home, field: str, value: object, kind: str, cost: str) -> None:
    """10.00 are booked for acc-1; `cost` is what the gateway holds beyond them."""
    with sqlite3.connect(billed.path / "sandbox" / "intents.db") as con:
        ref, body = con.execute("SELECT ref, body FROM intents WHERE invoice = 'INV-2026-05-000001'").fetchone()
        con.execute("UPDATE intents SET body = ? WHERE ref = ?", (json.dumps({**json.loads(body), field: value}), ref))
    assert told(differences(billed)) == [(kind, "INV-2026-05-000001", cost)]


def test_an_intent_that_the_gateway_does_not_know(billed: Home) -> None:
    with sqlite3.connect(billed.path / "sandbox" / "intents.db") as con:
        con.execute("DELETE FROM intents WHERE invoice = 'INV-2026-05-000001'")
    assert told(differences(billed)) == [("missing_intent", "INV-2026-05-000001", "-10.00")]


def test_disputes(billed: Home) -> None:
    """Opened at the gateway, it holds 10.00 less; the ledger, told of it, agrees; won, the money is there again."""
    ref = billed.report("payments")[0]["gateway_ref"]
    dispute = {"ref": "dp_1", "intent": ref, "amount_minor": 1000, "currency": "USD", "created_at": 1}
    record = billed.path / "sandbox" / "disputes.jsonl"
    record.write_text(json.dumps({**dispute, "outcome": "opened"}) + "\n")
    assert told(differences(billed)) == [("dispute_unknown", "INV-2026-05-000001", "-10.00")]
    billed.run("dispute", "PAY-2026-05-000001-1", "--opened")
    assert differences(billed, exit_code=0) == []
    with record.open("a") as file:
        file.write(json.dumps({**dispute, "outcome": "won"}) + "\n")
    assert told(differences(billed)) == [("dispute_outcome", "INV-2026-05-000001", "10.00")]


def test_a_gateway_that_does_not_answer_is_no_difference(billed: Home) -> None:
    class Silent(Sandbox):
        def list(self, since: int):  # type: ignore[no-untyped-def]
            raise NoAnswer("timeout")

    silent = Silent(billed.path / "sandbox", lambda: 0)
    with pytest.raises(MeteringError, match=r"did not answer: timeout") as error:
        reconcile_gateway(Engine(billed.path, Clock(parse_instant(billed.now))), gateway=silent)
    assert error.value.exit_code == 1
    billed.run("reconcile", "gateway", "--since", "yesterday", exit_code=2)


# Inventory


@begun
def with_four_snapshots(home: Home) -> None:
    home.now = "2026-06-11T00:00:00Z"
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    home.accounts("acc-1,USD,0,pm_card_visa")
    home.events(
        """
        2026-05-02 ready one gb=50
        2026-06-02 resized one gb=100
        2026-05-03 ready two gb=10 type=volume
        2026-05-04 ready three gb=20
        2026-06-05 deleted three
        """
    )
    home.run("ingest")


@pytest.fixture
def metered(tmp_path: Path) -> Home:
    """On 11 June: `one` (100 GB) and `two` (no price) live, `three` has ended on the 5th, `four` is new."""
    return with_four_snapshots(tmp_path / "home")


def inventory(home: Home, text: str, exit_code: int = 3) -> list[dict[str, str]]:
    path = home.file("inventory.txt", text)
    done = home.run("reconcile", "inventory", str(path), "--format", "csv", exit_code=exit_code)
    return list(csv.DictReader(io.StringIO(done.stdout)))


def test_an_inventory_is_compared_both_ways(metered: Home) -> None:
    """June has 720 hours: 100 GB are 72,000 GB-hours and 72.00; 20 GB that are not billed cost 14.40."""
    rows = inventory(metered, "snapshot_id,state\nthree,available\nfive,available\n")
    columns = ("kind", "snapshot_id", "size_bytes", "since", "gb_hours_per_month", "currency", "cost_per_month")
    assert [tuple(row[name] for name in columns) for row in rows] == [
        ("gone_there", "one", "100000000000", "2026-05-02T00:00:00Z", "72000.000000000", "USD", "72.00"),
        ("gone_there", "two", "10000000000", "2026-05-03T00:00:00Z", "7200.000000000", "USD", ""),
        ("unknown_here", "five", "", "", "", "", ""),
        ("unknown_here", "three", "20000000000", "2026-06-05T00:00:00Z", "14400.000000000", "USD", "14.40"),
    ]
    assert [row["detail"] for row in rows] == [
        "billed on", "not billed: no price", "not billed: never heard of", "not billed since its end",
    ]  # fmt: skip
    assert "gone_there: 72.00 USD a month; unknown_here: 14.40 USD a month" in metered.last.stderr


def test_equal_inventories_have_no_difference_and_nothing_is_written(metered: Home) -> None:
    path = metered.file("inventory.txt", '{"snapshot_id":"one","x":1}\n\n{"snapshot_id":"two"}\n')
    before = metered.state()
    metered.run("reconcile", "inventory", str(path))
    assert metered.state() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("id\nx\n", "line 1: no column snapshot_id"),
        ("snapshot_id\none\none\n", "line 3: 'one' stands already on line 2"),
        ("snapshot_id,a\none\n", "line 2: 1 value where"),
        ("a,snapshot_id\nx,\n", "line 2: snapshot_id is empty"),
        ('{"snapshot_id":"one"}\n{"snapshot":"two"}\n', "line 2: no object with the field"),
        ('{"snapshot_id":"one"}\n{"snapshot_id":2}\n', "line 2: snapshot_id is no text"),
        ('{"snapshot_id":"one"}\n{', "line 2: not JSON"),
    ],
)
def test_a_file_that_is_no_inventory_is_refused(metered: Home, text: str, message: str) -> None:
    inventory(metered, text, exit_code=2)
    assert message in metered.last.stderr


def test_a_list_of_nothing_is_a_header_alone(metered: Home, tmp_path: Path) -> None:
    assert [row["snapshot_id"] for row in inventory(metered, "snapshot_id\n")] == ["one", "two"]
    metered.run("reconcile", "inventory", str(tmp_path / "missing.csv"), exit_code=2)
