"""Homes of earlier versions open, prove and explain themselves; newer ones are refused in a word."""

from __future__ import annotations

import re
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from homes import KILLED, Home

from metering import __version__
from metering.ledger.book import VERSION
from metering.ledger.migrations import OLDEST, STEPS

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("home-*.tar.gz"))
POINTS = {"upgrade.before_commit"}
NOW = "2026-07-02T08:00:00Z"


def opened(archive: Path, folder: Path) -> Home:
    """The home of a fixture: a backup lies as a home does."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "home", filter="data")
    return Home(folder / "home", now=NOW)


def version_of(home: Home) -> int:
    with closing(sqlite3.connect(home.path / "ledger.db")) as con:
        return int(con.execute("PRAGMA user_version").fetchone()[0])


def named(archive: Path) -> int:
    return int(re.findall(r"\d+", archive.name)[0])


def test_every_version_since_the_first_has_a_way_forward() -> None:
    assert sorted(STEPS) == list(range(OLDEST, VERSION))
    assert f"home-{VERSION}-{__version__}.tar.gz" in {archive.name for archive in FIXTURES}


@pytest.mark.parametrize("archive", FIXTURES, ids=lambda path: path.name)
def test_a_home_of_a_version_opens_proves_and_explains_itself(archive: Path, tmp_path: Path) -> None:
    """Figures by hand: May 1 to June 1 are 744 h, 20th 456 h in; 100 GB x 456 h + 150 GB x 288 h = 88,800 GB-hours."""
    home = opened(archive, tmp_path)
    assert version_of(home) == named(archive)
    if named(archive) < VERSION:
        assert "metering upgrade" in home.run("status", exit_code=2).stderr
        home.run("upgrade")
        assert [path.name for path in (home.path / "backups").iterdir()] == [
            f"before-upgrade-from-{named(archive)}-2026-07-02T080000.tar.zst"
        ]
    assert version_of(home) == VERSION
    assert "Everything is of this version" in home.run("upgrade").stderr
    home.run("verify")
    lines = home.report("invoice-lines", "--account", "acc-1", "--month", "2026-05")
    # 88,800 x 0.000068 = 6.0384
    assert [(line["gb_hours"], line["amount"]) for line in lines] == [("88800.000000000", "6.04")]
    for number in home.column("invoices", "invoice"):
        home.run("explain", number)
    # What was closed before there were notices is not told now.
    home.events("2026-07-01 ready s9 acc=acc-1 gb=1")
    home.run("nightly", exit_code=None)
    assert not [path.name for path in (home.path / "outbox").glob("invoice.issued.*")]
    home.now = "2026-08-01T08:00:00Z"
    # acc-2 deleted its snapshot in May.
    home.run("close", "2026-07", exit_code=3)
    assert len([*(home.path / "outbox").glob("invoice.issued.INV-2026-07-*.json")]) == 2
    home.run("verify")


def test_what_a_void_sent_back_counts_no_more_as_brought_forward(home: Home) -> None:
    """Up to version 5 an invoice that got its carry back stayed carried, also when it was paid."""
    story = (Path(__file__).parent / "corrections" / "void_sends_back.txt").read_text("utf-8")
    home.tell(story[: story.index("now 2026-08-01")])
    with closing(sqlite3.connect(home.path / "ledger.db")) as con, con:
        con.execute("UPDATE invoice_status SET status = 'carried' WHERE invoice = 'INV-2026-05-000001'")
        con.execute("PRAGMA user_version = 5")
    home.run("upgrade")
    assert home.column("invoices", "status", "--month", "2026-05") == ["paid", "carried"]
    home.run("verify")


def old(tmp_path: Path) -> Home:
    return opened(min(FIXTURES, key=named), tmp_path)


def test_killed_before_the_commit_it_is_of_the_old_version(tmp_path: Path) -> None:
    """The step fails in the middle: nothing of it is there, and the next upgrade does it all."""
    home = old(tmp_path)
    before = version_of(home)
    assert home.run_apart("upgrade", failpoint="upgrade.before_commit").exit_code == KILLED
    assert version_of(home) == before
    home.run("upgrade")
    assert version_of(home) == VERSION
    home.run("verify")


def test_the_backup_is_of_the_old_version(tmp_path: Path) -> None:
    home = old(tmp_path)
    before = version_of(home)
    home.run("upgrade", "--backup", str(tmp_path / "kept"))
    with closing(sqlite3.connect(tmp_path / "kept" / "ledger.db")) as con:
        assert con.execute("PRAGMA user_version").fetchone() == (before,)


@pytest.mark.parametrize("version", [OLDEST - 1, VERSION + 1, 99])
def test_other_versions_are_refused(home: Home, version: int) -> None:
    """By the upgrade and by every other command, with exit 2 and what to do; nothing is touched."""
    home.accounts("acc-1,USD,0,pm_card_visa")
    with closing(sqlite3.connect(home.path / "ledger.db")) as con:
        con.execute(f"PRAGMA user_version = {version}")
    before = home.fingerprint()
    for command in ("upgrade", "close", "status", "nightly"):
        said = home.run(command, exit_code=2).stderr
        assert (f"version {version}" in said and "version of metering" in said) or "metering upgrade" in said
    assert home.fingerprint() == before


def test_a_full_disk_is_said_to_be_one(tmp_path: Path) -> None:
    """No file takes more than 2,000 bytes: nobody is told to move the ledger away, and the next upgrade does it all."""
    home = old(tmp_path)
    for command in ("upgrade", "restore"):
        done = home.run_apart(command, limit_bytes=2_000)
        assert done.exit_code == 1 and "damaged" not in done.stderr and "Make room" in done.stderr, done.stderr
        home.run("upgrade")
    home.run("verify")
