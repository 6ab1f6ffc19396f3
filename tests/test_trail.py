"""The audit trail: who ran what, when, by which clock, with which version and configuration, and what it changed."""

from __future__ import annotations

import hashlib
import os
import pwd
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from homes import KILLED, Home
from ledgers import behind_the_triggers

from metering import __version__
from metering.clock import Clock
from metering.errors import MeteringError
from metering.home import Home as Engine
from metering.ledger import runs
from metering.schema import tables
from metering.sql import sql
from metering.values import parse_instant

READY = "2026-05-01T00 ready s1 acc=acc-1 gb=100"


@pytest.fixture
def ready(home: Home) -> Home:
    """An account, a price, and a snapshot that waits in the inbox."""
    home.prices("snapshot.vm,,USD,0.000068,2026-01-01,")
    home.accounts("acc-1,USD,20,pm_card_visa")
    home.events(READY)
    return home


def trail(home: Home) -> list[dict[str, str]]:
    return home.report("audit")


def test_who_what_when_and_what_it_changed(ready: Home) -> None:
    """A close of one account: its postings are the invoice, and the payment by card."""
    ready.run("close", "2026-05")
    first, close = trail(ready)
    assert first["command"].startswith("accounts import ") and first["changed"] == "accounts 1"
    assert close["changed"].split("; ") == [
        *("batch 1", "invoices 1", "month prices 1", "months closed 1", "notices 1"),
        *("postings of card_payment 1", "postings of invoice 1"),
    ]
    for row in (first, close):
        assert (row["started_by"], row["machine"]) == (pwd.getpwuid(os.geteuid()).pw_name, socket.gethostname())
        assert (row["clock"], row["version"], row["exit_code"]) == ("set", __version__, "0")
        assert row["config_hash"] == hashlib.sha256((ready.path / "metering.toml").read_bytes()).hexdigest()
        assert row["started_at"] == row["ended_at"] == "2026-06-01T08:00:00Z"
    ready.run("verify")


def test_whatever_names_its_run_is_counted() -> None:
    """No table that says which run wrote a row is left out of what a run changed."""
    query = sql("reports", "audit")
    for table in tables().values():
        if table.stored == "ledger" and "run" in table.names and table.name not in runs.OF_RUNS - {"killed_runs"}:
            known = {"killed_runs": "found_by"}.get(table.name, "run")
            assert f"FROM {table.name} GROUP BY {known}" in query, table.name


def test_who_asked_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "alice")
    assert runs.origin().started_by == "root for alice"
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_000)
    monkeypatch.delenv("SUDO_USER")
    assert runs.origin().started_by == "4000000000"


def test_a_run_that_was_cut_off(ready: Home) -> None:
    """It stays without an end; `status` says so at once, the next run once, and reports and `audit` for ever."""
    assert ready.run_apart("close", failpoint="close.before_commit").exit_code == KILLED
    assert "Cut off       run 2: close, begun 2026-06-01T08:00:00Z" in ready.run("status").stdout
    sentence = "run 2 (close, begun 2026-06-01T08:00:00Z) was cut off"
    assert sentence in ready.run("close").stderr
    assert sentence not in ready.run("close").stderr
    assert "Cut off" not in ready.run("status").stdout
    for report in ("runs", "audit"):
        row = ready.report(report)[1]
        assert (row["ended_at"], row["exit_code"], row["summary"]) == ("", "", "cut off; found by run 3")
    assert trail(ready)[2]["changed"].endswith("runs found cut off 1")
    assert ready.report("runs")[2]["summary"].startswith(sentence)
    ready.run("verify")


def test_a_run_that_lives_was_not_cut_off(ready: Home) -> None:
    """Another run beside it takes it for what it is, on every engine."""
    engine = Engine(ready.path, Clock(parse_instant(ready.now)))
    with engine.run("collect"):
        assert "cut off" not in ready.run("funds", "add", "acc-1", "1.00", "--reference", "r").stderr
        assert "has not ended" not in (said := ready.run("status").stdout) and "Cut off" not in said
    assert ready.ledger("killed_runs") == []


def test_many_that_were_cut_off_are_counted(home: Home) -> None:
    """Thirty dead runs: twenty are named, and ten counted."""
    engine = Engine(home.path, Clock(parse_instant(home.now)))
    with engine.book.write() as con:
        for _ in range(30):
            runs.begin(con, "collect", engine.now, "", clock_is_real=False)
    engine.book.close()
    said = home.run("collect").stderr
    assert said.count("was cut off") == 20 and "10 more runs were cut off" in said
    assert len(home.ledger("killed_runs")) == 30


def test_what_checks_and_copies_leaves_a_run(ready: Home, tmp_path: Path) -> None:
    """With its exit code and what it found; a copy does not hold the run that made it."""
    ready.run("close", "2026-05")
    ready.run("verify")
    ready.run("backup", str(tmp_path / "copy"))
    ready.run("backup", str(tmp_path / "copy"), exit_code=2)
    ready.run("reconcile", "gateway")
    (tmp_path / "list.csv").write_text("snapshot_id\ns1\ns2\n")
    ready.run("reconcile", "inventory", str(tmp_path / "list.csv"), exit_code=3)
    (ready.path / "lake" / "events" / "00000001.parquet").unlink()
    ready.run("verify", exit_code=3)
    told = [(row["command"].split()[0], row["exit_code"], row["changed"]) for row in trail(ready)[2:]]
    assert told == [
        *(("verify", "0", "nothing"), ("backup", "0", "nothing"), ("backup", "2", "nothing")),
        *(("reconcile", "0", "nothing"), ("reconcile", "3", "nothing"), ("verify", "3", "nothing")),
    ]
    summaries = [row["summary"] for row in trail(ready)]
    assert summaries[2].endswith("checks hold") and "event_files: 1" in summaries[-1]
    with closing(sqlite3.connect(tmp_path / "copy" / "ledger.db")) as con:
        assert con.execute("SELECT command FROM runs WHERE run > 2").fetchall() == [("verify",)]


Unwritable = Callable[[Path, pytest.MonkeyPatch], None]


def _foreign(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)


def _read_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MeteringError(
            "The ledger ledger.db cannot be written: attempt to write a readonly database.", unchanged="", remedy=""
        )

    monkeypatch.setattr(runs, "begin", refuse)


@pytest.mark.parametrize(("make", "why"), [(_foreign, "belongs to another user"), (_read_only, "readonly database")])
def test_a_home_that_may_only_be_read_can_be_verified(
    ready: Home, monkeypatch: pytest.MonkeyPatch, make: Unwritable, why: str
) -> None:
    """Nothing is written, the answer is the same, and it is said that no run was left."""
    ready.run("close", "2026-05")
    make(ready.path, monkeypatch)
    before = ready.fingerprint()
    said = ready.run("verify").stderr
    assert "This run is not recorded: " in said and why in said
    assert ready.fingerprint() == before


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM run_origins WHERE run = 2", "nobody is known to have begun run 2"),
        ("UPDATE run_origins SET clock = 'x' WHERE run = 2", "run 2 went by a clock"),
        ("UPDATE run_origins SET run = 99 WHERE run = 2", "run 99, which"),
        ("UPDATE runs SET ended_at = 1, exit_code = 0 WHERE run = 2", "run 2 was found cut off by run 3, but"),
    ],
)
def test_a_trail_that_was_changed_is_found(ready: Home, statement: str, said: str) -> None:
    ready.run_apart("close", failpoint="close.before_commit")
    ready.run("collect")
    assert behind_the_triggers(ready.book, statement) == 1
    assert said in ready.run("verify", exit_code=3).stdout
