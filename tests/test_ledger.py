"""The book: balanced, charted, only ever added to, and sealed; the database itself refuses the rest."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from inspect import getmembers, isfunction, signature
from pathlib import Path

import pytest
import sqlalchemy as sa
from homes import Home, begun
from ledgers import POSTGRESQL, SQLITE, behind_the_triggers, pretend

from metering.errors import MeteringError
from metering.lake import connect
from metering.ledger import postings, sqlite
from metering.ledger.arrow import attach_ledger
from metering.ledger.book import VERSION, Book, change, insert, rows
from metering.ledger.postings import Entry, Journal, chart
from metering.ledger.purses import balances, credits
from metering.ledger.sqlite import SqliteBook
from metering.ledger.tables import metadata
from metering.schema import tables

ENTRY = {
    "entry": 1, "transaction": 1, "ledger_account": "bank", "account_id": "a", "currency": "USD",
    "debit_minor": 5, "credit_minor": 0, "invoice": None, "payment": None, "reference": None,
}  # fmt: skip
OTHER = {**ENTRY, "entry": 2, "ledger_account": "balance", "debit_minor": 0, "credit_minor": 5}
HEAD = {"transaction": 1, "posted_at": 7, "kind": "topup", "run": 1}


pytestmark = pytest.mark.each_engine
# What each engine says in its own words.
CHECKED = "(?i)check constraint"
NO_HEAD = "(?i)foreign key"
TWICE = "(?i)unique"


@pytest.fixture
def posted(book: Book) -> Book:
    """A book with a top-up of 5.00 and one of 3.00."""
    for count, amount in enumerate((500, 300), 1):
        with book.write() as con:
            journal = Journal(con, count, count)
            journal.post("topup", postings.topup("acc-1", "USD", amount, f"t{count}"))
            journal.flush()
            insert(con, "seals", [_blank("seals", count)])
    return book


def _blank(table: str, number: int) -> dict:
    """A row of a table in which every text is `x` and every integer the given number."""
    columns = metadata().tables[table].columns
    return {column.name: number if column.type.python_type is int else "x" for column in columns}


# Balance


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([ENTRY], "not balanced"),
        ([ENTRY, {**OTHER, "credit_minor": 4}], "not balanced"),
        ([ENTRY, {**OTHER, "currency": "EUR"}], "not balanced"),
        ([], "no entries"),
        ([{**ENTRY, "debit_minor": 0}, {**OTHER, "credit_minor": 0}], CHECKED),
        ([{**ENTRY, "credit_minor": 5}, OTHER], CHECKED),
        ([{**ENTRY, "debit_minor": -5}, {**OTHER, "credit_minor": -5}], CHECKED),
    ],
)
def test_a_transaction_that_is_not_balanced_is_refused(book: Book, entries: list[dict], told: str) -> None:
    with pytest.raises(sa.exc.IntegrityError, match=told), book.write() as con:
        insert(con, "entries", entries)
        insert(con, "transactions", [HEAD])
    with book.read() as con:
        assert rows(con, "entries") == rows(con, "transactions") == []


def test_entries_without_their_transaction_are_refused(book: Book) -> None:
    with pytest.raises(sa.exc.IntegrityError, match=NO_HEAD), book.write() as con:
        insert(con, "entries", [ENTRY, OTHER])


def test_nothing_is_added_to_a_complete_transaction(posted: Book) -> None:
    more = [{**ENTRY, "entry": 11}, {**OTHER, "entry": 12}]
    with pytest.raises(sa.exc.IntegrityError, match="complete"), posted.write() as con:
        insert(con, "entries", more)


@pytest.mark.parametrize("amount", ["5", 5.5, "five"])
def test_what_is_no_integer_is_no_amount(book: Book, amount: object) -> None:
    """A text of digits would be stored as an integer; anything else is refused, and nothing is rounded."""
    text = "INSERT INTO entries VALUES (1, 1, 'bank', 'a', 'USD', :amount, 0, NULL, NULL, NULL)"
    with pytest.raises((MeteringError, sa.exc.StatementError)), book.write() as con:
        con.execute(sa.text(text), {"amount": 5.5 if amount == "5" else amount})
        insert(con, "transactions", [HEAD])


def test_the_journal_posts_only_what_is_balanced_and_charted(book: Book) -> None:
    with book.write() as con:
        journal = Journal(con, 1, 1)
        with pytest.raises(AssertionError):
            journal.post("x", [Entry("bank", 5, "a", "USD"), Entry("balance", -4, "a", "USD")])
        with pytest.raises(AssertionError):
            journal.post("x", [Entry("bank", 5, "a", "USD"), Entry("balance", -5, "a", "EUR")])
        with pytest.raises(AssertionError):
            journal.post("x", [Entry("pocket", 5, "a", "USD"), Entry("balance", -5, "a", "USD")])
        assert journal.post("x", [Entry("bank", 0, "a", "USD"), Entry("balance", 0, "a", "USD")]) is None


def _events() -> list[tuple[str, Callable[..., list[Entry]]]]:
    return [
        (name, function)
        for name, function in getmembers(postings, isfunction)
        if function.__module__ == postings.__name__ and signature(function).return_annotation == "list[Entry]"
    ]


SAID = {"currency": "USD", "outcome": "opened", "ledger_account": "refunds", "to_card": True}


@pytest.mark.parametrize(("name", "event"), _events())
@pytest.mark.parametrize("sign", [1, -1])
def test_every_business_event_is_balanced_and_charted(name: str, event: Callable[..., list[Entry]], sign: int) -> None:
    parameters = signature(event).parameters
    given = {
        each: SAID.get(each, sign * (100 + count) if str(kind.annotation) == "int" else f"{each}-1")
        for count, (each, kind) in enumerate(parameters.items())
    }
    entries = event(**given)
    assert sum(entry.amount_minor for entry in entries) == 0, name
    assert any(entry.amount_minor for entry in entries)
    assert {entry.ledger_account for entry in entries} <= chart().keys()
    for entry in entries:
        per = chart()[entry.ledger_account].get("per")
        assert per is None or getattr(entry, per), f"{name}: {entry} names no {per}"


@pytest.mark.parametrize("outcome", ["opened", "won", "lost"])
@pytest.mark.parametrize("to_card", [True, False])
def test_events_with_a_choice_are_balanced_either_way(outcome: str, to_card: bool) -> None:
    who = ("acc-1", "USD", "INV-1", "PAY-1", "ref-1", 5)
    for entries in (postings.dispute(outcome, *who), postings.refund(*who, to_card=to_card)):
        assert sum(entry.amount_minor for entry in entries) == 0
        assert {entry.ledger_account for entry in entries} <= chart().keys()


def test_the_events_are_found() -> None:
    assert len(_events()) >= 12


def test_the_chart_says_what_each_account_is() -> None:
    for name, account in chart().items():
        assert account["class"] in ("asset", "liability", "income", "expense"), name
        assert account["doc"].endswith(".")
        assert account.get("per") in (None, "invoice", "account_id", "reference")


@pytest.mark.parametrize("engine", [SQLITE], indirect=True)
def test_more_values_than_a_statement_takes(posted: Book) -> None:
    """Asked for in parts, rows still come once and in key order; 40,000 is more than SQLite takes at once."""
    with posted.read() as con:
        every = rows(con, "entries")
        wanted = list(range(40_000, 0, -1))
        assert len(every) > 1
        assert rows(con, "entries", entry=wanted + wanted) == every
        assert rows(con, "entries", entry=wanted, transaction=set(wanted)) == every


# Only ever added to


REPLACING = {"sqlite": "REPLACE INTO {} SELECT * FROM {}", "postgresql": "TRUNCATE {} CASCADE"}
"""The back door of each engine that an ordinary trigger does not watch."""


@pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET {} = {}", REPLACING])
@pytest.mark.parametrize("table", ["entries", "transactions", "seals"])
def test_what_is_booked_is_never_changed(posted: Book, engine: str, table: str, statement: str | dict) -> None:
    first = next(iter(metadata().tables[table].columns)).name
    statement = statement[engine] if isinstance(statement, dict) else statement
    more = {"UPDATE": (f'"{first}"', f'"{first}"'), "REPLAC": (table,)}.get(statement[:6], ())
    text = statement.format(table, *more)
    with posted.read() as con:
        before = rows(con, table)
    with pytest.raises(sa.exc.IntegrityError, match=r"never|complete"), posted.write() as con:
        con.exec_driver_sql(text)
    with posted.read() as con:
        assert rows(con, table) == before
    assert before


TRIGGERS = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
}


def test_every_table_refuses_deletion_and_the_change_of_what_is_fixed(book: Book, engine: str) -> None:
    """By the triggers that the database really has, and by schemas/ what may change."""
    book.create()
    with book.read() as con:
        triggers = {row[0]: row[1] for row in con.exec_driver_sql(TRIGGERS[engine])}
    for table in tables().values():
        if table.stored != "ledger":
            continue
        assert f"{table.name}_is_kept" in triggers
        fixed = triggers[f"{table.name}_is_fixed"]
        for name in table.names:
            # A name that says the same without quotation marks is shown without them.
            assert (re.search(rf"\b{name}\b", fixed.partition(" ON ")[0]) is not None) == (name not in table.mutable), (
                f"{table.name}.{name}"
            )


def test_only_a_payments_outcome_may_change(book: Book) -> None:
    payment = {
        "payment": "PAY-1", "invoice": "INV-1", "attempt": 1, "intent": None, "account_id": "a", "currency": "USD",
        "amount_minor": 5, "gateway": "sandbox", "payment_method": "pm", "status": "unknown", "reason": None,
        "retryable": 1, "charge": None, "created_at": 1, "settled_at": None,
    }  # fmt: skip
    with book.write() as con:
        insert(con, "payments", [payment])
        change(con, "payments", {"payment": "PAY-1"}, status="declined")
    with pytest.raises(sa.exc.IntegrityError, match="never change"), book.write() as con:
        change(con, "payments", {"payment": "PAY-1"}, amount_minor=4)
    with book.write() as con:
        insert(con, "payments", [{**payment, "payment": "PAY-2", "attempt": 2}])
    with pytest.raises(sa.exc.IntegrityError, match=TWICE), book.write() as con:
        insert(con, "payments", [{**payment, "payment": "PAY-3", "attempt": 3}])  # a second unknown one


def test_readers_cannot_write(posted: Book) -> None:
    with pytest.raises(MeteringError, match=r"read-?only"), posted.read() as con:
        insert(con, "transactions", [{**HEAD, "transaction": 99}])


# What accounts hold


def test_purses_add_up(posted: Book) -> None:
    with posted.write() as con:
        journal = Journal(con, 3, 3)
        number = journal.post("credit_grant", postings.credit_grant("acc-1", "USD", 900, "promo"))
        journal.post("balance_use", postings.balance_use("acc-1", "USD", "INV-1", 120))
        journal.post("credit_use", postings.credit_use("acc-1", "USD", "INV-1", "promo", 200))
        journal.post("set_aside", postings.set_aside("acc-1", "USD", "INV-1", 80))
        journal.flush()
        fund = {"reference": "promo", "account_id": "acc-1", "kind": "credit", "amount_minor": 900, "currency": "USD"}
        insert(con, "funds", [{**fund, "expires": "2026-12-31", "transaction": number}])
    with posted.read() as con:
        assert balances(con) == {"acc-1": 500 + 300 - 120 - 80}
        assert [(c.reference, c.expires, c.remaining_minor) for c in credits(con)] == [("promo", "2026-12-31", 700)]


# Seals


@begun
def with_two_topups(home: Home) -> None:
    home.accounts("acc-1,USD,0,")
    home.run("funds", "add", "acc-1", "5.00", "--reference", "t1")
    home.run("funds", "add", "acc-1", "3.00", "--reference", "t2")


@pytest.fixture
def sealed(tmp_path: Path) -> Home:
    """A home in which two runs posted a top-up each."""
    return with_two_topups(tmp_path / "home")


def test_a_run_that_posts_nothing_makes_no_seal(sealed: Home) -> None:
    before = sealed.ledger("seals")
    sealed.run("funds", "add", "acc-1", "3.00", "--reference", "t2")
    assert sealed.ledger("seals") == before
    assert len({row["seal"] for row in before}) == 2
    assert "seals" not in sealed.run("verify").stdout


CHANGES = [
    "UPDATE entries SET debit_minor = 501 WHERE entry = 1",
    "UPDATE entries SET account_id = 'acc-2' WHERE entry = 2",
    "UPDATE entries SET reference = NULL WHERE entry = 3",
    'UPDATE transactions SET posted_at = 8 WHERE "transaction" = 1',
    "UPDATE transactions SET kind = 'gift' WHERE \"transaction\" = 2",
    "DELETE FROM entries WHERE entry = 4",
    "UPDATE account_versions SET payment_customer = 'cus_thief'",
    "UPDATE funds SET amount_minor = 1 WHERE reference = 't1'",
    "UPDATE seals SET hash = replace(hash, substr(hash, 1, 1), 'x') WHERE seal = 1",
]


@pytest.mark.parametrize(
    ("engine", "change_made"),
    [*((SQLITE, text) for text in CHANGES), (POSTGRESQL, CHANGES[0]), (POSTGRESQL, CHANGES[-1])],
    indirect=["engine"],
)
def test_a_change_behind_the_triggers_breaks_the_seals(sealed: Home, change_made: str) -> None:
    assert behind_the_triggers(sealed.book, change_made) >= 1
    assert "seals: " in sealed.run("verify", exit_code=3).stdout


@pytest.mark.parametrize("version", [1, 99])
def test_a_ledger_of_another_version_is_not_touched(posted: Book, version: int) -> None:
    """Neither an older nor a newer schema is read or written, and the message says which it is."""
    posted.close()
    pretend(posted, version)
    for door in (posted.read, posted.write):
        with pytest.raises(MeteringError, match=f"schema version {version}"), door() as con:
            insert(con, "runs", [_blank("runs", 1)])
    posted.close()
    pretend(posted, VERSION)
    with posted.read() as con:
        assert rows(con, "runs") == []


def test_a_ledger_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run killed while it made the ledger left a file that every later one refused, and `upgrade` left so."""

    def killed(_: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "ledger.db"
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "_fill", killed)
        with pytest.raises(KeyboardInterrupt):
            SqliteBook(path).create()
    assert not path.exists()
    assert SqliteBook(path).version() is None
    SqliteBook(path)._make()
    # Its log is set up (https://www.sqlite.org/fileformat.html, 1.3): a kill meanwhile would leave a journal there.
    assert path.read_bytes()[18:20] == b"\2\2"
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith("ledger.db")] == ["ledger.db"]
    assert (path.stat().st_mode & 0o777, SqliteBook(path).version()) == (0o600, VERSION)


def test_a_file_that_holds_nothing_is_no_ledger(tmp_path: Path) -> None:
    book = SqliteBook(tmp_path / "ledger.db")
    book.path.touch()
    with book.read() as con:
        assert rows(con, "runs") == []
    assert not book.exists
    book.create()
    assert (book.exists, book.version()) == (True, VERSION)
    book.close()


def test_a_report_leaves_a_writer_its_lock(tmp_path: Path) -> None:
    """POSIX locks fall when their process closes the file by another SQLite: then two could write at once."""
    book = SqliteBook(tmp_path / "ledger.db")
    book.create()
    ask = f"import sqlite3; sqlite3.connect({str(book.path)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
    with book.write():
        attach_ledger(connect(), book)
        done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
    assert "database is locked" in done.stderr
    subprocess.run([sys.executable, "-c", ask], check=True)


def test_the_readers_of_a_run_leave_no_log(tmp_path: Path) -> None:
    """They hand their connections on, also within one another; the last to go is the writer, which empties the log."""
    book = SqliteBook(tmp_path / "ledger.db")
    with book.write() as con:
        insert(con, "runs", [_blank("runs", 1)])
    with book.read() as con, book.read() as other:
        with book.write() as writer:
            insert(writer, "runs", [_blank("runs", 2)])
        assert [len(rows(each, "runs")) for each in (con, other)] == [1, 1], "each sees what it saw"
    with book.read() as con:
        assert len(rows(con, "runs")) == 2
    with pytest.raises(ZeroDivisionError), book.read():
        1 / 0  # noqa: B018
    with book.read() as con:
        assert len(rows(con, "runs")) == 2
    attach_ledger(connect(), book)
    book.close()
    assert not any(path.exists() for path in book.files[1:])
