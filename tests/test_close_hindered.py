"""A full disk and two runs at once: a clear word, nothing half-done, nothing doubled, and the next run succeeds."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path
from types import ModuleType

import pytest
from homes import Home, begun, event_lines

import metering.lake.files as files
import metering.lake.store as store

PRICE = "snapshot.vm,,USD,0.001,2026-01-01,"
EVENTS = "2026-05-02T10 ready s1 gb=1000\n2026-05-02T15 deleted s1\n"


@begun
def beginning(home: Home) -> None:
    home.prices(PRICE)
    home.accounts("acc-1,USD,0,pm_card_visa")
    home.events(EVENTS)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return beginning(tmp_path / "home")


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere/file")


def copied(home: Home, name: str) -> Home:
    path = home.path.with_name(name)
    shutil.copytree(home.path, path)
    return Home(path, home.now)


# A full disk


@pytest.mark.parametrize("place", [store, files])
def test_ingest_on_a_full_disk(home: Home, monkeypatch: pytest.MonkeyPatch, place: ModuleType) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(place, "sync", full_disk)
        done = home.run("ingest", exit_code=1)
    assert "No space left on device" in done.stderr
    assert "The lake is as it was." in done.stderr
    assert "run the same command again" in done.stderr
    assert (home.path / "inbox" / "events.jsonl").exists()
    home.run("verify")
    home.run("ingest")
    assert home.column("usage", "gb_hours") == ["5000.000000000"]


@pytest.mark.parametrize("place", [store, files])
def test_the_files_of_a_close_on_a_full_disk(home: Home, monkeypatch: pytest.MonkeyPatch, place: ModuleType) -> None:
    """The close is committed, its files are not: no card is charged before they are there."""
    home.run("ingest")
    with monkeypatch.context() as patch:
        patch.setattr(place, "sync", full_disk)
        done = home.run("close", exit_code=1)
    assert "No space left on device" in done.stderr
    assert "Mend the cause and run the same command again." in done.stderr
    assert home.captures() == []
    assert home.column("invoices", "status") == ["open"]
    home.run("close")
    assert [capture["amount"] for capture in home.captures()] == ["5.00"]
    home.run("verify")


@pytest.mark.parametrize(("command", "limits"), [("ingest", (2_000, 40_000)), ("close", (2_000, 60_000, 150_000))])
def test_a_disk_that_is_full_anywhere(home: Home, command: str, limits: tuple[int, ...]) -> None:
    """No file may grow beyond a limit: whichever write it is that fails, the run again ends as if undisturbed.

    With the larger limits the close is committed, or even the card charged, before the ledger is full.
    """
    if command == "ingest":
        names = (f"2026-05-02T10 creating c{count} note={'%032x' % (count * 7**30)}" for count in range(900))
        home.events("\n".join(names), "large.jsonl")
    undisturbed = copied(home, "undisturbed")
    undisturbed.run(command)
    failed = []
    for limit in limits:
        hindered = copied(home, f"limit-{limit}")
        done = hindered.run_apart(command, limit_bytes=limit)
        if done.exit_code:
            failed.append(limit)
            assert done.exit_code == 1, done
            assert "metering: " in done.stderr, done
            assert "run the same command again" in done.stderr or "Look at disk space" in done.stderr, done
            assert "Traceback" not in done.stderr, done
        hindered.run(command)
        assert hindered.state() == undisturbed.state(), limit
        hindered.run("verify")
    assert len(failed) >= 2, f"only {failed} were small enough"


# Two at once


def test_a_held_lock_stops_what_writes_and_nothing_else(home: Home) -> None:
    home.run("ingest")
    before = home.state()
    descriptor = os.open(home.path / ".metering.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        for command in (["ingest"], ["close"], ["close", "2026-05"], ["accounts", "import", "accounts.csv"]):
            assert "Another run holds the lock" in home.run(*command, exit_code=75).stderr
        assert home.run("nightly", exit_code=75)
        for command in (["report", "usage"], ["status"], ["verify"], ["quarantine"], ["prices", "check"]):
            home.run(*command)
        assert home.state() == before
    finally:
        os.close(descriptor)
    home.run("close")


def together(home: Home, *commands: list[str]) -> list[int]:
    started = [home.start(*command) for command in commands]
    for process in started:
        process.join(60)
    return [process.exitcode if process.exitcode is not None else -1 for process in started]


def test_two_closes_at_once(home: Home) -> None:
    alone = copied(home, "alone")
    alone.run("close")
    codes = together(home, ["close"], ["close"])
    assert set(codes) <= {0, 75, 3}, codes
    assert 0 in codes
    home.run("close")
    assert home.state() == alone.state()
    assert len(home.captures()) == 1
    home.run("verify")


def test_a_close_and_an_ingest_at_once(home: Home) -> None:
    """The same events by the inbox and by a file: whoever comes first, they count once."""
    other: Path = home.file("same.jsonl", event_lines(EVENTS))
    codes = together(home, ["close", "2026-05"], ["ingest", str(other)])
    assert set(codes) <= {0, 75}, codes
    assert 0 in codes
    for command in (["ingest", str(other)], ["close", "2026-05"]):
        home.run(*command)
    assert home.column("invoices", "total") == ["5.00"]
    assert home.column("usage", "gb_hours") == ["5000.000000000"]
    assert len(home.captures()) == 1
    home.run("verify")


def test_two_collects_at_once_charge_once(home: Home) -> None:
    home.accounts("acc-1,USD,0,")
    home.run("close", exit_code=3)
    home.accounts("acc-1,USD,0,pm_card_visa")
    home.now = "2026-06-02T08:00:00Z"
    assert set(together(home, ["collect"], ["collect"], ["nightly"])) <= {0, 3}
    home.run("collect")
    assert [capture["amount"] for capture in home.captures()] == ["5.00"]
    assert home.column("invoices", "status") == ["paid"]
    home.run("verify")
