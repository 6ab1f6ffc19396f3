"""What is lost comes back as it was: no number is used twice, and nothing is charged again.

The story: May is closed, a backup is made. Then money and an account come in, June is closed and charged. Then the
ledger, or the whole home, is put back from the backup.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from homes import KILLED, Home
from payments_fake import FakeGateway
from payments_given import INVOICE, Given

from metering.home import Home as Engine
from metering.home import Run
from metering.ledger.sqlite import SqliteBook
from metering.payments.adopt import check_gateway
from metering.payments.collect import Outcome, charge_invoices
from metering.payments.gateway import Intent, NoAnswer, Order
from metering.recovery.backup import back_up

JULY = "2026-07-01T08:00:00Z"
JUNE_EVENTS = """
    2026-06-02 ready june-1 acc=acc-1 gb=1000
    2026-06-02T20 deleted june-1
    2026-06-02 ready june-3 acc=acc-3 gb=1000
    2026-06-02T07 deleted june-3
    2026-05-02T08 deleted one id=late
"""
ACCOUNTS = ("acc-1,USD,0,pm_card_visa", "acc-2,USD,0,pm_card_chargeDeclined", "acc-3,USD,0,pm_card_visa")
PUTTING_BACK = ("restore.before_ledger", "restore.after_ledger", "restore.before_take_over", "restore.after_take_over")
ADOPTING = "restore.during_adopt"
POINTS = {*PUTTING_BACK, ADOPTING}


@cache
def story() -> Path:
    """`before` is the backup, `cut` a backup made before May's cards were charged, `after` the home as it became."""
    folder = Path(mkdtemp())
    home = Home(folder / "after")
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    home.accounts(*ACCOUNTS[:2])
    home.events(
        """
        2026-05-02 ready one acc=acc-1 gb=1000
        2026-05-02T10 deleted one
        2026-05-02 ready two acc=acc-2 gb=1000
        2026-05-02T05 deleted two
        """
    )
    assert home.run_apart("close", failpoint="close.after_files").exit_code == KILLED
    home.run("backup", str(folder / "cut"))
    home.run("close", exit_code=3)
    home.run("backup", str(folder / "before"))
    home.now = "2026-06-10T08:00:00Z"
    home.accounts(*ACCOUNTS)
    home.funds("acc-1,topup,4.00,USD,top,")
    home.run("refund", "PAY-2026-05-000001-1", "--amount", "1.00", "--to-card")
    home.events(JUNE_EVENTS, "june.jsonl")
    home.now = JULY
    home.run("close")
    return folder


def given(path: Path) -> Home:
    """The home as it became, on 1 July."""
    shutil.copytree(story() / "after", path)
    return Home(path, JULY)


def put_back_by_hand(home: Home) -> None:
    for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm"):
        (home.path / name).unlink(missing_ok=True)
    shutil.copy(story() / "before" / "ledger.db", home.path / "ledger.db")


def money(home: Home) -> list[tuple[str, str, str]]:
    """What the sandbox says left the cards."""
    return sorted((line["invoice"], line["customer"], line["amount"]) for line in home.captures())


CAPTURED = [
    ("INV-2026-05-000001", "cus_acc-1", "10.00"),
    ("INV-2026-06-000001", "cus_acc-1", "14.00"),
    ("INV-2026-06-000002", "cus_acc-3", "7.00"),
]
"""By pencil: acc-1 used 20 TB-hours in June (20.00), less 2.00 of May by the late event, less 4.00 of balance."""


def test_the_story_is_what_it_should_be(tmp_path: Path) -> None:
    home = given(tmp_path / "home")
    assert money(home) == CAPTURED
    home.run("verify")


# The ledger was put back by hand


@pytest.mark.parametrize(
    "command",
    [
        "close",
        "close 2026-06",
        "close --dry-run",
        "collect",
        "funds add acc-1 1 --reference r",
        "refund PAY-2026-05-000001-1",
    ],
)
def test_an_older_ledger_is_noticed_and_nothing_is_written(tmp_path: Path, command: str) -> None:
    home = given(tmp_path / "home")
    put_back_by_hand(home)
    before = home.fingerprint()
    home.run(*command.split(), exit_code=3)
    assert "metering restore" in home.last.stderr
    assert home.fingerprint() == before


def test_a_night_takes_events_but_charges_nothing(tmp_path: Path) -> None:
    home = given(tmp_path / "home")
    put_back_by_hand(home)
    home.events("2026-06-20 ready new acc=acc-1\n", "new.jsonl")
    home.now = "2026-07-02T08:00:00Z"
    home.run("nightly", exit_code=3)
    assert "metering restore" in home.last.stderr
    assert (home.path / "inbox" / "done" / "new.jsonl").exists()
    assert money(home) == CAPTURED
    home.run("restore")
    assert len(home.ledger("closes")) == 2
    home.run("verify")


def test_what_the_ledger_lacks_is_taken_over(tmp_path: Path) -> None:
    """The same numbers, lines, payments, refunds, funds, accounts and seals; nothing is charged again."""
    home = given(tmp_path / "home")
    whole, rows = (
        home.state(),
        {name: home.ledger(name) for name in ("transactions", "entries", "seals", "corrections")},
    )
    put_back_by_hand(home)
    assert home.state() != whole
    assert "older than its copy in the lake" in home.run("status").stdout
    home.run("restore")
    assert "closes 1, invoices 2, payments 2" in home.last.stderr
    assert home.state() == whole
    assert {name: home.ledger(name) for name in rows} == rows
    home.run("verify")
    home.run("restore")
    home.run("close")
    assert home.state() == whole
    home.run("collect", exit_code=3)  # acc-2 is tried again, and declined
    assert money(home) == CAPTURED


def test_a_lost_ledger_is_made_again_from_the_lake(tmp_path: Path) -> None:
    home = given(tmp_path / "home")
    whole = home.state()
    for path in home.path.glob("ledger.db*"):
        path.unlink()
    home.run("close", exit_code=3)
    home.run("restore")
    assert home.state() == whole
    home.run("verify")


def test_a_ledger_that_went_its_own_way_is_refused(tmp_path: Path) -> None:
    """Somebody wrote to the older ledger with the lake out of sight: its rows differ, and stay."""
    home = given(tmp_path / "home")
    put_back_by_hand(home)
    (home.path / "lake" / "ledger").rename(tmp_path / "away")
    (home.path / "lake" / "closes" / "2026-06").rename(tmp_path / "june")
    home.funds("acc-1,topup,9.00,USD,other,")
    shutil.rmtree(home.path / "lake" / "ledger")
    (tmp_path / "away").rename(home.path / "lake" / "ledger")
    before = home.ledger("entries")
    home.run("restore", exit_code=3)
    assert "are not of one book" in home.last.stderr and "Move ledger.db away" in home.last.stderr
    assert home.ledger("entries") == before
    (home.path / "ledger.db").rename(tmp_path / "ledger.db")
    home.run("restore")
    (tmp_path / "june").rename(home.path / "lake" / "closes" / "2026-06")
    assert money(home) == CAPTURED
    home.run("verify")


@pytest.mark.parametrize("gone", [False, True], ids=["changed", "missing"])
def test_a_damaged_copy_in_the_lake_is_no_truth(tmp_path: Path, gone: bool) -> None:
    home = given(tmp_path / "home")
    put_back_by_hand(home)
    files = sorted((home.path / "lake" / "ledger").glob("*.zst"))
    if gone:
        files[-2].unlink()
    else:
        shutil.copy(files[-3], files[-2])
    before = home.ledger("entries")
    home.run("restore", exit_code=1)
    assert "lake/ledger cannot be read: " in home.last.stderr
    assert home.ledger("entries") == before
    home.run("verify", exit_code=3)
    assert "ledger_copy" in home.last.stdout


@pytest.mark.parametrize("point", PUTTING_BACK)
def test_killed_in_a_restore_and_run_again(tmp_path: Path, point: str) -> None:
    home = given(tmp_path / "home")
    whole = home.state()
    for path in home.path.glob("ledger.db*"):
        path.unlink()
    backup = str(story() / "before")
    died = home.run_apart("restore", backup, failpoint=point)
    assert died.exit_code == KILLED, f"{point} was never reached: {died}"
    home.run("close", exit_code=0 if point == "restore.after_take_over" else 3)
    home.run("restore", backup)
    assert home.state() == whole


# The whole home was put back: only the gateway knows what came after


def moved(tmp_path: Path) -> Home:
    """A new machine, and the gateway with all that was charged since the backup."""
    path = tmp_path / "new"
    path.mkdir()
    shutil.copytree(story() / "after" / "sandbox", path / "sandbox")
    return Home(path, JULY)


def restored(tmp_path: Path) -> Home:
    """The home put back there from the backup."""
    home = moved(tmp_path)
    home.run("restore", str(story() / "before"))
    return home


def test_a_copied_home_is_noticed_by_the_gateways_list(tmp_path: Path) -> None:
    shutil.copytree(story() / "before", tmp_path / "copied")
    shutil.rmtree(tmp_path / "copied" / "sandbox")
    shutil.copytree(story() / "after" / "sandbox", tmp_path / "copied" / "sandbox")
    home = Home(tmp_path / "copied", JULY)
    home.events(JUNE_EVENTS, "june.jsonl")
    for command in ("close", "collect", "nightly"):
        home.run(command, exit_code=3)
        assert "2 payment intents that the ledger does not know" in home.last.stderr
    assert len(home.ledger("closes")) == 1
    home.run("restore")
    assert "Held" in home.last.stderr


def test_where_the_list_is_silent_each_intent_is_looked_for_before_it_is_made(tmp_path: Path) -> None:
    """The ledger does not know that its invoice was paid, and the gateway would not say: still it is paid once."""

    class Silent(FakeGateway):
        def list(self, since: int) -> Iterator[Intent]:
            raise NoAnswer("timeout")

    gateway = Silent()
    home = Given(tmp_path / "home", gateway)
    home.account()
    home.invoice()
    lost = gateway.create(Order(f"{INVOICE}/1", INVOICE, "cus_1", "USD", 1000), "before the ledger was lost")
    gateway.confirm(lost.ref, "pm_card_visa", "likewise")

    def charge(engine: Engine, run: Run) -> Outcome:
        check_gateway(engine, run, gateway)
        return charge_invoices(engine, run, [INVOICE], gateway=gateway, workers=1)

    home.run(charge)
    assert len(gateway.captures) == 1
    assert home.captured() == 1000


def test_payments_of_known_invoices_are_adopted(tmp_path: Path) -> None:
    """The backup was made when May was closed and no card charged: 10.00 are posted, the decline is known again."""
    home = moved(tmp_path)
    home.run("restore", str(story() / "cut"), exit_code=3)
    assert "Look at INV-2026-05-000002: declined" in home.last.stderr
    paid = {row["invoice"]: (row["status"], row["card_charged"]) for row in home.report("invoices")}
    assert paid == {"INV-2026-05-000001": ("paid", "10.00"), "INV-2026-05-000002": ("open", "0.00")}
    home.run("close", "2026-05", exit_code=3)
    home.run("verify", exit_code=3)  # June's captures, and a refund
    assert "INV-2026-05" not in home.last.stdout
    assert money(home) == CAPTURED


def test_killed_while_payments_are_adopted(tmp_path: Path) -> None:
    home = moved(tmp_path)
    backup = str(story() / "cut")
    assert home.run_apart("restore", backup, failpoint=ADOPTING).exit_code == KILLED
    home.run("restore", backup)
    home.run("collect", exit_code=None)
    assert [row["card_charged"] for row in home.report("invoices")] == ["10.00", "0.00"]
    assert money(home) == CAPTURED


def test_a_close_takes_over_what_was_charged_for_its_numbers(tmp_path: Path) -> None:
    """June is closed again from the same events and accounts: the same numbers, paid, and no card is charged."""
    home = restored(tmp_path)
    assert "INV-2026-06-000001 again takes it over" in home.last.stderr
    home.accounts(*ACCOUNTS)
    home.funds("acc-1,topup,4.00,USD,top,")
    home.events(JUNE_EVENTS, "june.jsonl")
    home.run("close", exit_code=0)
    assert money(home) == CAPTURED
    charged = {row["invoice"]: row["card_charged"] for row in home.report("invoices", "--month", "2026-06")}
    assert charged == {"INV-2026-06-000001": "14.00", "INV-2026-06-000002": "7.00"}
    home.run("verify", exit_code=3)
    assert home.last.stdout.splitlines() == [
        "card_refunds_booked: refund RF-000001 of 100 at the sandbox is no refund in the ledger"
    ]


def test_a_refund_that_was_lost_is_named_and_its_number_is_not_used_again(tmp_path: Path) -> None:
    """1.00 went back to the card after the backup; nobody knows any more why, so a person has to look."""
    home = restored(tmp_path)
    home.run("reconcile", "gateway", "--format", "csv", exit_code=3)
    assert "refund_unknown,INV-2026-05-000001" in home.last.stdout
    home.run("refund", "PAY-2026-05-000001-1", "--amount", "2.00", "--to-card", exit_code=3)
    assert "refused the refund" in home.last.stderr
    home.run("refund", "PAY-2026-05-000001-1", "--amount", "2.00", "--to-card")
    made = [json.loads(line) for line in (home.path / "sandbox" / "refunds.jsonl").read_text().splitlines()]
    assert [(refund["correction"], refund["amount_minor"]) for refund in made] == [
        ("RF-000001", 100),
        ("RF-000002", 200),
    ]


def test_a_number_never_goes_to_another_customer(tmp_path: Path) -> None:
    """Without acc-3 and its events, June would have one invoice; INV-2026-06-000002 was charged to acc-3."""
    home = restored(tmp_path)
    home.events(JUNE_EVENTS.replace("acc-3", "acc-1"), "june.jsonl")
    home.run("close", exit_code=3)
    assert "would not come out as it was closed before the ledger was lost: " in home.last.stderr
    assert "INV-2026-06-000002 was charged to cus_acc-3" in home.last.stderr
    assert "Nothing of 2026-06 was written." in home.last.stderr
    assert len(home.ledger("closes")) == 1


def test_another_amount_blocks_the_invoice_and_says_so(tmp_path: Path) -> None:
    """The top-up is not imported again: June would charge 18.00, but 14.00 left the card."""
    home = restored(tmp_path)
    home.accounts(*ACCOUNTS)
    home.events(JUNE_EVENTS, "june.jsonl")
    home.run("close", exit_code=3)
    assert "Look at INV-2026-06-000001: alarm (wrong_amount)" in home.last.stderr
    home.run("collect", exit_code=3)
    assert "INV-2026-06-000001: alarm (wrong_amount)" in home.last.stderr
    assert money(home) == CAPTURED
    due = {row["invoice"]: row["amount_due"] for row in home.report("invoices", "--month", "2026-06")}
    assert due == {"INV-2026-06-000001": "18.00", "INV-2026-06-000002": "0.00"}


def test_a_lost_disk_with_the_inbox_left(tmp_path: Path) -> None:
    """Ledger and lake are gone: what came after the backup still lies in inbox/done, and is taken in again."""
    home = given(tmp_path / "home")
    (home.path / "ledger.db").unlink()
    shutil.rmtree(home.path / "lake")
    home.run("restore", str(story() / "before"))
    assert "1 file came after the backup: `metering ingest inbox/done`" in home.last.stderr
    home.run("close", exit_code=3)
    assert "INV-2026-06-000001 was charged to cus_acc-1, and would now be missing" in home.last.stderr
    home.accounts(*ACCOUNTS)
    home.funds("acc-1,topup,4.00,USD,top,")
    home.run("ingest", str(home.path / "inbox" / "done"))
    home.run("close")
    assert money(home) == CAPTURED


# The lake is older than the ledger


def test_a_disk_that_is_not_mounted(tmp_path: Path) -> None:
    """An empty lake where the ledger knows of events: nothing is taken in, billed or written; then all is there."""
    home = given(tmp_path / "home")
    done = sorted((home.path / "inbox" / "done").iterdir())
    home.events("2026-07-02 ready new acc=acc-1 gb=1", "july.jsonl")
    (home.path / "lake").rename(tmp_path / "disk")
    home.now = "2026-08-01T08:00:00Z"
    for command in ("ingest", "nightly", "close", "compact"):
        home.run(command, exit_code=3)
        assert "ends with batch 0, but the ledger" in home.last.stderr and "not mounted" in home.last.stderr
    home.run("close", "--dry-run", exit_code=3)
    home.run("doctor", exit_code=3)
    assert "not mounted" in home.last.stdout
    assert "Lake " in home.run("status").stdout
    home.run("restore", exit_code=3)
    assert (home.path / "inbox" / "july.jsonl").exists()
    assert sorted((home.path / "inbox" / "done").iterdir()) == done
    assert {path.relative_to(home.path / "lake").parts[0] for path in (home.path / "lake").rglob("*")} <= {"state"}
    shutil.rmtree(home.path / "lake")
    (tmp_path / "disk").rename(home.path / "lake")
    home.run("nightly")
    home.run("close")
    home.run("verify")


def test_a_lost_lake_whose_backup_is_older_than_the_ledger(tmp_path: Path) -> None:
    """What came since is taken in again under the numbers that the ledger knows: nothing is billed twice."""
    home = given(tmp_path / "home")
    home.events("2026-06-09 creating last", "last.jsonl")
    home.run("ingest")
    used, done = home.report("usage"), home.path / "inbox" / "done"
    lake, kept = home.path / "lake", tmp_path / "kept"
    assert json.loads((lake / "manifest.json").read_text())["batches"][-1]["batch"] == 3
    shutil.rmtree(lake)
    home.run("nightly", exit_code=3)
    done.rename(kept)
    home.run("restore", str(story() / "before"), exit_code=3)
    assert f"the ledger knows of batch 3, and {done} has nothing newer" in home.last.stderr
    shutil.rmtree(done)
    kept.rename(done)
    assert home.run_apart("restore", str(story() / "before"), failpoint="lake.before_commit").exit_code == KILLED
    home.run("restore", str(story() / "before"))
    assert "batches 2 to 3 were lost; 6 events" in home.last.stderr and "as batch 2" in home.last.stderr
    assert home.report("usage") == used
    home.now = "2026-08-01T08:00:00Z"
    home.run("close")
    home.run("verify")
    assert home.report("invoice-lines", "--month", "2026-07") == []
    assert money(home) == CAPTURED
    home.run("explain", "INV-2026-06-000001")
    home.events("2026-08-02 ready new acc=acc-1 gb=1", "new.jsonl")
    home.now = "2026-08-03T08:00:00Z"
    assert "batch 4: " in home.run("ingest").stderr


# Backups


@pytest.mark.parametrize("name", ["copy", "copy.tar.gz", "copy.tar.zst"])
def test_a_backup_restores_to_the_same(tmp_path: Path, name: str) -> None:
    home = given(tmp_path / "home")
    before = home.state(), home.fingerprint().keys()
    home.run("backup", str(tmp_path / name))
    assert (home.state(), home.fingerprint().keys()) == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
    new = Home(home.path, JULY)
    new.path = tmp_path / "new"
    new.run("restore", str(tmp_path / name))
    assert new.state() == home.state()
    new.run("verify")
    home.run("backup", str(tmp_path / name), exit_code=2)


def test_names_of_producers_are_backed_up_and_restored(tmp_path: Path, home: Home) -> None:
    """One as long as names can be, and one that is no text, which gets another; what is in them is what it was."""
    longest = "a" * 249 + ".jsonl"
    (home.path / "inbox" / longest).write_text("long")
    Path(os.fsdecode(os.fsencode(home.path / "inbox") + b"/\xff.jsonl")).write_text("odd")
    home.run("backup", str(tmp_path / "copy.tar"))
    shutil.rmtree(home.path)
    home.run("restore", str(tmp_path / "copy.tar"))
    there = {path.name: path.read_text() for path in (home.path / "inbox").iterdir()}
    (odd,) = there.keys() - {longest}
    assert there == {longest: "long", odd: "odd"} and odd.isprintable() and odd.endswith("-\\xff.jsonl")


def test_a_backup_is_consistent_while_another_run_writes(tmp_path: Path) -> None:
    home = given(tmp_path / "home")
    with SqliteBook(home.path / "ledger.db").write() as con:
        con.exec_driver_sql("UPDATE invoice_status SET amount_due_minor = 1")
        # The command would then wait for its turn to record its run.
        back_up(Engine(home.path), tmp_path / "copy")
    with sqlite3.connect(tmp_path / "copy" / "ledger.db") as copy:
        assert set(copy.execute("SELECT DISTINCT amount_due_minor FROM invoice_status")) == {(0,), (500,)}


def test_a_backup_that_was_changed_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(story() / "before", copy)
    (copy / "prices.csv").write_text("changed")
    home = Home(tmp_path / "new", JULY)
    home.run("restore", str(copy), exit_code=2)
    assert "prices.csv was changed" in home.last.stderr
    assert not (home.path / "ledger.db").exists()
    (copy / "prices.csv").unlink()
    home.run("restore", str(copy), exit_code=2)
    home.run("restore", str(tmp_path / "none"), exit_code=2)
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(b"no archive")
    home.run("restore", str(broken), exit_code=2)


def test_a_restore_overwrites_nothing(tmp_path: Path) -> None:
    """The home is newer than the backup: all of it stays."""
    home = given(tmp_path / "home")
    whole = home.state()
    (home.path / "prices.csv").write_text((home.path / "prices.csv").read_text() + "\n")
    kept = (home.path / "prices.csv").read_text()
    home.run("restore", str(story() / "before"))
    assert home.state() == whole
    assert (home.path / "prices.csv").read_text() == kept


def test_the_home_of_another_book_is_left_alone(tmp_path: Path) -> None:
    other = Home(tmp_path / "other", "2026-06-15T00:00:00Z")
    other.accounts("acc-9,USD,0,")
    before = other.fingerprint()
    other.run("restore", str(story() / "before"), exit_code=2)
    assert "another book" in other.last.stderr
    assert other.fingerprint() == before


def test_a_home_without_a_ledger_is_backed_up_too(tmp_path: Path, home: Home) -> None:
    home.run("restore", exit_code=2)
    assert "has no ledger, and the lake has no copy of one" in home.last.stderr
    home.run("backup", str(tmp_path / "copy"))
    shutil.rmtree(home.path)
    home.run("restore", str(tmp_path / "copy"))
    assert (home.path / "metering.toml").exists()
    home.run("collect")


def test_a_backup_lists_every_file_with_its_hash(tmp_path: Path) -> None:
    manifest: dict[str, Any] = json.loads((story() / "before" / "backup.json").read_text())
    assert {"ledger.db", "metering.toml", "prices.csv", "lake/manifest.json", "sandbox/captures.jsonl"} <= set(
        manifest["files"]
    )
    assert any(name.startswith("lake/closes/2026-05/") for name in manifest["files"])
    assert any(name.startswith("inbox/done/") for name in manifest["files"])
