"""Errors that no command in a folder provokes: each by the least that is broken so. The gallery names them."""

from __future__ import annotations

import errno
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from homes import Home, begun

import metering
from metering.cli import app as cli
from metering.close import files as close_files
from metering.config import Engine
from metering.documents import write
from metering.documents.pdf import Press
from metering.errors import MeteringError, UsageError
from metering.home import Home as OpenedHome
from metering.lake import Lake, compaction
from metering.lake.bucket import Bucket
from metering.lake.objects import Objects
from metering.lake.raw import _copy
from metering.lake.store import File
from metering.ledger import postgres, sqlite
from metering.payments import airwallex, stripe
from metering.payments.gateway import NoAnswer, open_gateway
from metering.recovery import backup, put_back, restore
from metering.reports import render
from metering.reports.xlsx import write_xlsx
from metering.spark import session
from metering.state import build

FULL = OSError(errno.ENOSPC, "No space left on device")


@contextmanager
def said(words: str, exit_code: int = 1) -> Iterator[None]:
    """What is within ends in an error that says these words."""
    with pytest.raises(MeteringError) as error:
        yield
    assert words in str(error.value) and error.value.exit_code == exit_code
    assert error.value.unchanged and error.value.remedy


def failing(error: Exception) -> Callable[..., Any]:
    """A function that always ends in this error."""

    def fail(*args: object, **more: object) -> None:
        raise error

    return fail


@begun
def _closed(home: Home) -> None:
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    home.accounts("acc-1,USD,0,pm_card_visa")
    home.events("2026-05-02 ready one acc=acc-1 gb=1000\n2026-05-02T10 deleted one\n")
    home.run("close")


@pytest.fixture
def closed(tmp_path: Path) -> Home:
    """A home of which May 2026 is closed."""
    return _closed(tmp_path / "home")


@pytest.mark.parametrize(
    ("module", "need", "words"),
    [
        ("typst", Press, "PDF needs typst."),
        ("xlsxwriter", lambda: write_xlsx(None, ""), "Workbooks need XlsxWriter."),  # type: ignore[arg-type]
        ("stripe", lambda: stripe._open("", "", None), "the Stripe SDK is not installed"),  # type: ignore[arg-type]
        ("httpx", lambda: airwallex._open(""), "httpx is not installed"),
    ],
    ids=["pdf", "xlsx", "stripe", "airwallex"],
)
def test_an_extra_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, module: str, need: Callable[[], object], words: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with said(words, 2):
        need()


def test_a_gateway_that_is_not_here(tmp_path: Path) -> None:
    made = Home(tmp_path / "home")
    with said("this installation has no such gateway", 2):
        open_gateway(OpenedHome(made.path), "bank")


def test_a_call_that_says_two_things_or_no_time(closed: Home) -> None:
    with said("`month` names one month", 2):
        metering.open_home(closed.path).report("usage", month="2026-05", to="2026-06")
    with said("now: 'noon' is not an RFC 3339 time", 2):
        metering.open_home(closed.path, now="noon").report("usage")


def test_a_word_that_is_no_text(closed: Home) -> None:
    assert (
        r"'accounts close acc-\udcff' is no text in UTF-8."
        in closed.run("accounts", "close", "acc-\udcff", exit_code=2).stderr
    )


def test_wrong_use_in_a_log(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["metering", "--json-logs", "closes"])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(cli, "_heed_signals", lambda: None)
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    logged = msgspec.json.decode(capsys.readouterr().err)
    assert logged["message"].startswith("No such command 'closes'.")
    assert "`--help` after the command shows what it takes." in logged["message"]


def test_files_of_a_close_that_come_out_otherwise(closed: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    (next((closed.path / "lake" / "closes" / "2026-05").glob("invoices*"))).unlink()
    monkeypatch.setattr(close_files, "content_hash", lambda table: "another")
    assert "differ from what the close recorded" in closed.run("close", "2026-05", exit_code=1).stderr


def test_documents_for_a_terminal_and_without_a_font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: True))
    with said("A PDF is nothing for a terminal.", 2):
        write.write_one({}, "pdf", None)
    with said("xlsx is nothing for a terminal.", 2):
        render.write(None, "xlsx", None)  # type: ignore[arg-type]
    monkeypatch.undo()
    unset = MeteringError("no font has it", unchanged="This document was not written.", remedy="Install one.")
    monkeypatch.setattr(write, "maker", lambda format: failing(unset))
    with said("0 documents were written, 2 were not.", 3):
        write.write_all([{"number": "1"}, {"number": "2"}], "html", str(tmp_path))


def test_an_object_that_was_changed_or_cut_off(tmp_path: Path) -> None:
    there = Bucket("s3://bucket", tmp_path, claim=None)  # type: ignore[arg-type]
    there.objects = SimpleNamespace(download=lambda name, part: "0" * 64)  # type: ignore[assignment]
    with said("s3://bucket/events/1.parquet was changed."):
        there.find("events/1.parquet", "f" * 64)
    objects = Objects("s3://bucket")
    objects.__dict__["_client"] = SimpleNamespace(
        put_object=lambda **given: {"ETag": "encrypted"}, head_object=lambda **given: {"ContentLength": 3}
    )
    (tmp_path / "four").write_text("four")
    with said("was cut off by the store"):
        objects.upload(tmp_path / "four", "four")


def test_files_that_are_merged_joined_or_archived(closed: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    closed.events("2026-05-03 ready two acc=acc-1 gb=1\n", "b.jsonl")
    closed.run("ingest")
    lake = closed.path / "lake"
    with monkeypatch.context() as patch:
        patch.setattr(compaction, "unlike", lambda *given: ["a row is missing"])
        assert "a row is missing.\nNothing was merged." in closed.run("compact", "--least", "2", exit_code=1).stderr
    raw = next((lake / "raw").glob("00000001*"))
    raw.write_bytes(b"changed")
    assert "does not hold the lines of batch 1" in closed.run("compact", "--least", "2", exit_code=1).stderr
    with said("raw/1 was changed.\nNothing was removed from the lake."):
        _copy(raw, lake / "kept", File("raw/1", 1, "f" * 64))


@pytest.mark.parametrize(
    ("schema", "words"), [(None, "the schema that its search_path names does not exist"), ("public", "is in LATIN1")]
)
def test_a_database_that_cannot_hold_the_book(schema: str | None, words: str) -> None:
    answers = {"SELECT current_schema()": schema, "SHOW server_encoding": "LATIN1"}
    con = SimpleNamespace(exec_driver_sql=lambda query: SimpleNamespace(scalar_one=lambda: answers[query]))
    with said(words, 2):
        postgres._check_place(con)  # type: ignore[arg-type]


def test_a_file_of_the_ledger_that_cannot_be_read_or_copied(closed: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    book, target = closed.path / "ledger.db", closed.path / "copy.db"
    monkeypatch.setattr(sqlite, "_damage", failing(sqlite3.OperationalError("database or disk is full")))
    with said("cannot be read: database or disk is full"):
        sqlite.SqliteBook(book).damage(thorough=True)
    with said("cannot be copied to"):
        sqlite.copy_sqlite(book, target)
    monkeypatch.setattr(sqlite, "_damage", failing(sqlite3.DatabaseError("a page is missing")))
    with said("is damaged: a page is missing.\nNo backup was made."):
        sqlite.copy_sqlite(book, target)
    assert "is damaged: a page is missing.\nThe ledger is as it was." in closed.run("restore", exit_code=1).stderr


class Restless(Lake):
    """A lake that is another one whenever it is looked at."""

    def manifest(self, *given: Any) -> Any:
        return msgspec.structs.replace(super().manifest(*given), archived=1)


def test_a_backup_of_what_is_restless_gone_or_too_much(closed: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, target = closed.path / "lake", closed.path / "copy"
    with said("The lake changed all the time while it was copied."):
        backup._copy_lake(Restless(lake), closed.path / "restless")
    with monkeypatch.context() as patch:
        patch.setattr(backup, "MOST_MANIFEST_BYTES", 10)
        assert "files are more than one backup can name" in closed.run("backup", str(target), exit_code=1).stderr
    next((lake / "events").glob("*.parquet")).unlink()
    assert "The lake lacks events/" in closed.run("backup", str(target), exit_code=1).stderr


def test_a_restore_on_a_full_disk_and_without_an_answer(closed: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(put_back, "sync", failing(FULL))
    with said("again cannot be written: No space left on device"):
        put_back._put(closed.path / "prices.csv", closed.path / "again")
    monkeypatch.setattr(restore, "lost_intents", failing(NoAnswer("timeout")))
    assert "The gateway sandbox did not answer: timeout." in closed.run("restore", exit_code=1).stderr


def test_a_state_that_cannot_be_written(closed: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_advance_or_build", failing(FULL))
    with said("until the state is written, reports and closes read all events"):
        build.advance(Lake(closed.path / "lake"), 0)


def test_a_cluster_that_fails_or_has_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Engine(name="spark", remote="sc://127.0.0.1:9")
    with said("Spark at sc://127.0.0.1:9 failed: a job was lost"), session.told(settings):
        raise OSError("a job was lost")
    for words in session._UNSEEN:
        with said("does not find the lake"), session.told(settings):
            raise OSError(f"[{words}] there is nothing")
    forever = threading.Event()
    busy = SimpleNamespace(range=lambda count: SimpleNamespace(count=forever.wait), version="4")
    monkeypatch.setattr(session, "open_session", lambda settings: busy)
    monkeypatch.setattr(session, "ANSWERED_WITHIN", 0.01)
    with said("has given no worker to a small job"):
        session.version(settings)
    forever.set()


def test_the_errors_of_this_file_are_seen() -> None:
    with pytest.raises(AssertionError), said("this"):
        raise UsageError("that", remedy="Do so.")
