"""What only a server can do to a ledger: cut connections, other machines, roles, and its own languages."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from homes import Home
from ledgers import POSTGRESQL, SQLITE, ledger_url, ledgers_on, started
from payments_given import Given
from postgres_server import Server
from s3_server import new_store
from test_payments_crash import Process, assert_books_equal_captures, at_point, gone_on

from metering.errors import MeteringError, UsageError
from metering.lake import connect
from metering.ledger import postgres, postings
from metering.ledger.arrow import attach_ledger
from metering.ledger.book import Book, insert, open_book, rows
from metering.ledger.postgres import PostgresBook
from metering.ledger.postings import Journal
from metering.ledger.sqlite import SqliteBook
from metering.ledger.tables import metadata

pytestmark = pytest.mark.parametrize("engine", [POSTGRESQL], indirect=True)
CUT = "AdminShutdown|server closed|terminating|connection"


def post(book: Book, count: int) -> None:
    """A top-up that is known by its run."""
    with book.write() as con:
        journal = Journal(con, count, count)
        journal.post("topup", postings.topup("acc-1", "USD", count, f"t{count}"))
        journal.flush()


def posted(book: Book) -> list[int]:
    """The runs of all transactions, in their order."""
    with book.read() as con:
        return [row["run"] for row in rows(con, "transactions")]


def cut(server: Server, database: str, where: str = "true") -> int:
    """End sessions on a database as an operator, a failover or a firewall does."""
    query = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    return len(server.run(f"{query} AND datname = '{database}' AND {where}"))


@contextmanager
def at_commit(book: Book, *, done: bool, end: Callable[[Any], object] | None = None) -> Iterator[list[str]]:
    """Cut the next COMMIT's connection: before the server does anything, or after it did and before it says so."""
    assert isinstance(book, PostgresBook)
    seen: list[str] = []

    def before(con, cursor, statement, parameters, context, executemany) -> None:
        if statement == "COMMIT" and not seen:
            seen.append(statement)
            connection = con.connection.driver_connection
            if done:
                connection.execute("COMMIT")
            if end is None:
                cut(started(), book.name, f"pid = {connection.info.backend_pid}")
            else:
                end(connection)

    sa.event.listen(book._engine, "before_cursor_execute", before)
    yield seen
    sa.event.remove(book._engine, "before_cursor_execute", before)


# A connection that is cut


def test_cut_before_the_commit_nothing_is_there_and_it_says_so(book: Book) -> None:
    post(book, 1)
    with at_commit(book, done=False) as seen, pytest.raises(MeteringError, match=CUT) as told:
        post(book, 2)
    assert seen
    assert told.value.unchanged == "The ledger is as it was."
    assert posted(book) == [1]
    post(book, 3)
    assert posted(book) == [1, 3]


def test_cut_after_the_commit_it_is_there_once_and_the_run_goes_on(book: Book) -> None:
    post(book, 1)
    with at_commit(book, done=True) as seen:
        post(book, 2)
    assert seen
    post(book, 3)
    assert posted(book) == [1, 2, 3]


def test_whatever_moment_meets_the_cut_what_is_acknowledged_is_what_is_there(book: Book) -> None:
    """Two writers, each on connections of its own, while sessions are ended all the time."""
    post(book, 1)
    over = threading.Event()
    known: list[int] = []

    def write(first: int) -> None:
        own = open_book(str(book._url.render_as_string(hide_password=False)), Path())
        for count in range(first, first + 30):
            with suppress(MeteringError):
                post(own, count)
                known.append(count)
        own.close()

    writers = [threading.Thread(target=write, args=(first,)) for first in (100, 200)]
    killer = threading.Thread(target=lambda: [cut(started(), book.name) for _ in iter(over.is_set, True)])
    for thread in (*writers, killer):
        thread.start()
    for thread in writers:
        thread.join()
    over.set()
    killer.join()
    assert sorted(posted(book)) == sorted([1, *known])
    with book.read() as con:
        numbers = [row["transaction"] for row in rows(con, "transactions")]
    assert numbers == list(range(1, len(known) + 2))


def test_a_statement_that_is_cut_leaves_nothing(book: Book) -> None:
    post(book, 1)
    with pytest.raises(MeteringError, match=CUT), book.write() as con:
        insert(con, "runs", [{"run": 1, "command": "x", "started_at": 1, "version": "1", "config_hash": ""}])
        cut(started(), book.name)
        insert(con, "runs", [{"run": 2, "command": "x", "started_at": 1, "version": "1", "config_hash": ""}])
    with book.read() as con:
        assert rows(con, "runs") == []


def test_a_run_that_lost_its_hold_writes_no_more(book: Book) -> None:
    """Whoever ends the connection frees the name: another run may have it by now."""
    post(book, 1)
    with book.claim("run") as mine:
        assert mine
        cut(started(), book.name)
        with pytest.raises(MeteringError, match="held the ledger"):
            post(book, 2)
    post(book, 3)
    assert posted(book) == [1, 3]
    with book.claim("run") as mine:
        assert mine


def test_a_server_that_is_away_is_an_error_without_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "do-not-tell")
    home = Home(tmp_path / "home")
    home.file("metering.toml", f'[ledger]\nurl = "postgresql+psycopg://me@/none?host={tmp_path}"\n')
    told = home.run("status", exit_code=1)
    assert "The ledger none cannot be read" in told.stderr
    assert "do-not-tell" not in str(told)


# A server that dies and comes back


@pytest.fixture(scope="module")
def mortal() -> Iterator[Server]:
    """A server that loses nothing when it dies, and may be killed."""
    made = Server(("shared_buffers=32MB",))
    yield made
    made.remove()


CRASHES = [signal.SIGQUIT, pytest.param(signal.SIGKILL, marks=pytest.mark.soak)]
"""An immediate stop; the death of the first process, which the others notice."""


@pytest.mark.parametrize("done", [False, True], ids=["before the commit", "after it"])
@pytest.mark.parametrize("how", CRASHES, ids=lambda how: how.name)
def test_the_server_dies_during_a_commit_and_comes_back(mortal: Server, how: int, done: bool) -> None:
    """The writer asks it then what took place, and says so or goes on."""
    book = open_book(mortal.url(mortal.database()), Path())
    post(book, 1)

    def die(connection: Any) -> None:
        mortal.crash(how)
        mortal.start()

    with at_commit(book, done=done, end=die) as seen:
        if done:
            post(book, 2)
        else:
            with pytest.raises(MeteringError, match=CUT) as told:
                post(book, 2)
            assert (told.value.exit_code, told.value.unchanged) == (1, "The ledger is as it was.")
    assert seen
    post(book, 3)
    assert posted(book) == ([1, 2, 3] if done else [1, 3])
    book.close()


@pytest.mark.parametrize("done", [False, True], ids=["before the commit", "after it"])
def test_a_server_that_stays_away_after_a_commit(mortal: Server, monkeypatch: pytest.MonkeyPatch, done: bool) -> None:
    """Nobody can say whether it took place: exit 1, and the next run finds it whole or not at all."""
    monkeypatch.setattr(postgres, "PATIENCE_SECONDS", 2)
    book = open_book(mortal.url(mortal.database()), Path())
    post(book, 1)
    with (
        at_commit(book, done=done, end=lambda connection: mortal.crash()),
        pytest.raises(MeteringError, match="cannot be asked whether it took place") as told,
    ):
        post(book, 2)
    assert told.value.exit_code == 1 and "whole or not at all" in str(told.value.unchanged)
    mortal.start()
    post(book, 3)
    assert posted(book) == ([1, 2, 3] if done else [1, 3])
    book.close()


@pytest.mark.parametrize("how", CRASHES, ids=lambda how: how.name)
@pytest.mark.parametrize("point", ["payment.before_confirm", "payment.after_confirm", "payment.before_record"])
def test_the_server_dies_while_cards_are_charged(mortal: Server, tmp_path: Path, how: int, point: str) -> None:
    """The run ends with exit 1; the next one reads back what the dead one had asked for, and charges the others."""
    given = Given(tmp_path / "home", config=f'[ledger]\nurl = "{mortal.url(mortal.database())}"\n')
    for number in range(1, 5):
        given.account(f"acc-{number}")
        given.invoice(number=number, account=f"acc-{number}")
    passed: list[str] = []

    def die() -> None:
        passed.append(point)
        if len(passed) == 2:
            mortal.crash(how)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(MeteringError, match=CUT) as told:
        at_point(point, die, patch)
        given.collect()
    assert told.value.exit_code == 1 and told.value.remedy
    mortal.start()
    # The second confirm was on its way to the gateway, whatever the ledger did.
    assert len(given.sandbox.captures()) == 2
    given.collect()
    assert len(given.sandbox.captures()) == 4
    assert {row["attempt"] for row in given.table("payments")} == {1}
    assert_books_equal_captures(given)


# Other runs, on any machine


def test_two_homes_that_share_only_the_database_take_turns(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other")
    other.file("metering.toml", (home.path / "metering.toml").read_text())
    book = home.book
    with book.claim("run") as mine:
        assert mine
        told = other.run("close", exit_code=75)
        assert f"Another run holds the lock of the ledger {book.name}" in told.stderr
    other.run("close")
    book.close()


def test_a_name_is_held_once_and_freed_by_death(book: Book) -> None:
    other = open_book(book._url.render_as_string(hide_password=False), Path())
    with book.claim("a") as first, book.claim("a") as again, other.claim("a") as elsewhere, other.claim("b") as free:
        assert (first, again, elsewhere, free) == (True, False, False, True)
    with other.claim("a") as mine, book.claim("a") as theirs:
        assert (mine, theirs) == (True, False)
        cut(started(), book.name)
        with book.claim("a") as freed:
            assert freed
    book.close()


def test_readers_see_one_state_and_wait_for_nobody(book: Book) -> None:
    """Also DuckDB's, which read many tables one after the other."""
    post(book, 1)
    count = pa.schema({"count": pa.int64()})
    with book.read() as con, book.snapshot() as read:
        assert len(rows(con, "transactions")) == 1
        assert read("SELECT count(*) AS count FROM transactions", count).to_pylist() == [{"count": 1}]
        post(book, 2)
        assert len(rows(con, "entries")) == 2
        assert read("SELECT count(*) AS count FROM entries", count).to_pylist() == [{"count": 2}]
        with book.write():
            assert posted(book) == [1, 2]


# Values


def test_integers_are_exact_on_every_way(book: Book) -> None:
    """The largest amount, and a usage of 38 digits: written, read, summed, and read by DuckDB."""
    largest, usage = 2**63 - 1, 10**38 - 1
    line = {
        "invoice": "I", "line": 1, "kind": "usage", "month": "2026-05", "account_id": "ä", "sku": "s", "region": "",
        "price_per_gb_hour": "0.1", "byte_micros": usage, "currency": "USD", "amount_minor": largest,
        "tax_rate": "0", "tax_minor": -largest,
    }  # fmt: skip
    with book.write() as con:
        insert(con, "invoice_lines", [line, {**line, "line": 2, "byte_micros": -usage}])
    lines = metadata().tables["invoice_lines"].c
    with book.read() as con:
        assert [row["byte_micros"] for row in rows(con, "invoice_lines")] == [usage, -usage]
        total = con.scalar(sa.select(sa.func.sum(lines.amount_minor)))
        assert (total, type(total)) == (2 * largest, int)
    duck = connect(None)
    attach_ledger(duck, book, ("invoice_lines",))
    found = duck.execute("SELECT byte_micros::VARCHAR, amount_minor::VARCHAR, account_id FROM invoice_lines").fetchall()
    assert found == [(str(usage), str(largest), "ä"), (str(-usage), str(largest), "ä")]


def backend(con: sa.Connection) -> int:
    """The server's process for a connection."""
    return con.connection.driver_connection.info.backend_pid  # type: ignore[union-attr,no-any-return]


AWKWARD = ["", "\\N", "\\.", "a\tb", "a\nb", "a\\", "\"'", "{}", "%s", "😀", None]
"""Texts that mean something to COPY's own format, and none."""


def test_many_rows_at_once_come_as_they_are(book: Book) -> None:
    """They travel by COPY; one alone does not."""
    made = [{"run": n, "command": "x", "started_at": n, "version": "1", "config_hash": ""} for n in range(1, 12)]
    found = [{**row, "summary": text} for row, text in zip(made, AWKWARD, strict=True)]
    with book.write() as con:
        for some, word in ((found[:1], "INSERT"), (found[1:], "COPY")):
            insert(con, "runs", some)
            last = started().run(f"SELECT query FROM pg_stat_activity WHERE pid = {backend(con)}")
            assert str(last[0][0]).startswith(word)
    with book.read() as con:
        assert [row["summary"] for row in rows(con, "runs")] == AWKWARD


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"run": 2}, sa.exc.IntegrityError),
        ({"version": None}, sa.exc.IntegrityError),
        ({"started_at": 1.0}, MeteringError),
        ({"started_at": 2**63}, MeteringError),
        ({"command": "a\0b"}, MeteringError),
    ],
    ids=["key", "null", "fraction", "too large", "no text"],
)
def test_one_wrong_row_among_many_leaves_none(book: Book, wrong: dict[str, Any], error: type[Exception]) -> None:
    made = [{"run": n, "command": "x", "started_at": n, "version": "1", "config_hash": ""} for n in range(1, 40)]
    with pytest.raises(error), book.write() as con:
        insert(con, "runs", [*made, {**made[0], "run": 40, **wrong}])
    with book.read() as con:
        assert rows(con, "runs") == []


def test_texts_are_ordered_by_code_point(book: Book) -> None:
    names = ["B", "a", "Ä", "ß", "_", "-1", "10", "9", "é", "z", "😀", "\uffff"]
    with book.write() as con:
        insert(con, "notices", [{"notice": n, "kind": "k", "subject": "s", "told_at": 1, "run": 1} for n in names])
    with book.read() as con:
        assert [row["notice"] for row in rows(con, "notices")] == sorted(names)


def test_a_schema_of_its_own(book: Book) -> None:
    """`search_path` names it; a ledger in another schema of the database is none of ours."""
    post(book, 1)
    started().run("CREATE SCHEMA billing", book.name)
    other = open_book(started().url(book.name, more="&options=-csearch_path%3Dbilling"), Path())
    missing = open_book(started().url(book.name, more="&options=-csearch_path%3Dnowhere"), Path())
    assert not other.exists
    post(other, 2)
    assert (posted(book), posted(other)) == ([1], [2])
    with book.claim("a") as here, other.claim("a") as there:
        assert here and there
    with pytest.raises(UsageError, match="search_path"):
        missing.create()
    for each in (other, missing, book):
        each.close()
    started().run("DROP SCHEMA billing CASCADE", book.name)


# Roles


@pytest.fixture
def roles(book: Book) -> Iterator[dict[str, Book]]:
    """The group roles, with a login each; rights are granted by `upgrade`."""
    server = started()
    made = {name: open_book(server.url(book.name, f"the_{name}"), Path()) for name in ("writer", "analyst")}
    for name in made:
        server.run(f"CREATE ROLE metering_{name}; CREATE ROLE the_{name} LOGIN IN ROLE metering_{name}")
    post(book, 1)
    book.prepare()
    yield made
    for name, each in made.items():
        each.close()
        server.run(f"DROP OWNED BY metering_{name}", book.name)
        server.run(f"DROP ROLE the_{name}; DROP ROLE metering_{name}")


def test_the_writer_adds_and_the_analyst_reads(roles: dict[str, Book]) -> None:
    writer, analyst = roles["writer"], roles["analyst"]
    post(writer, 2)
    assert posted(writer) == posted(analyst) == [1, 2]
    duck = connect(None)
    attach_ledger(duck, analyst)
    assert duck.execute("SELECT count(*) FROM entries").fetchall() == [(4,)]
    with pytest.raises(MeteringError, match="permission denied"):
        post(analyst, 3)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM seals",
        "TRUNCATE entries CASCADE",
        "ALTER TABLE entries DISABLE TRIGGER ALL",
        "SET session_replication_role = replica",
        "DROP TABLE entries CASCADE",
        "CREATE TRIGGER t AFTER INSERT ON entries EXECUTE FUNCTION refuse_change()",
        "UPDATE ledger_version SET version = 1",
    ],
)
def test_the_writer_has_no_right_to(roles: dict[str, Book], statement: str) -> None:
    with pytest.raises(MeteringError, match=r"permission denied|must be owner"), roles["writer"].write() as con:
        con.exec_driver_sql(statement)


# What a home does with it


def test_without_the_extra_the_error_names_it(book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = book._url.render_as_string()
    for module in ("psycopg", "metering.ledger.psycopg_types", "adbc_driver_postgresql"):
        monkeypatch.setitem(sys.modules, module, None)
    bare = open_book(url, tmp_path)
    for door in (bare.create, lambda: bare.snapshot().__enter__()):
        with pytest.raises(UsageError) as told:
            door()
        assert "metering[postgres]" in str(told.value.remedy)


def test_a_ledger_moves_from_engine_to_engine_by_a_backup(home: Home, tmp_path: Path) -> None:
    """A backup's ledger is a SQLite file whatever engine it came from, so a restore may go to the other."""
    home.prices("snapshot.vm,,USD,0.000068,2026-01-01,")
    home.accounts("acc-1,USD,20,pm_card_visa")
    home.events("2026-05-01T00 ready s1 acc=acc-1 gb=50000")
    home.run("close", "2026-05")
    home.run("backup", str(tmp_path / "first"))
    with ledgers_on(SQLITE):
        light = Home(tmp_path / "light")
        light.run("restore", str(tmp_path / "first"))
        light.run("verify")
        assert light.state() == home.state()
        assert light.ledger("seals")[: len(home.ledger("seals"))] == home.ledger("seals")
        light.run("backup", str(tmp_path / "second"))
    back = Home(tmp_path / "back")
    back.run("restore", str(tmp_path / "second"))
    back.run("verify")
    assert back.state() == home.state()


def test_a_ledger_of_an_earlier_version_is_saved_and_brought_forward(home: Home, tmp_path: Path) -> None:
    """A version before notices had no such table; what is new gets its triggers and rights too."""
    home.accounts("acc-1,USD,20,")
    before = home.ledger("account_versions")
    database = home.book.name
    started().run("DROP TABLE notices; UPDATE ledger_version SET version = 3", database)
    assert "Run `metering upgrade`" in home.run("status", exit_code=2).stderr
    home.run("upgrade", "--backup", str(tmp_path / "old"))
    assert home.ledger("account_versions") == before
    assert home.ledger("notices") == []
    assert started().run("SELECT tgname FROM pg_trigger WHERE tgname = 'notices_is_kept'", database)
    home.run("verify")
    assert SqliteBook(tmp_path / "old" / "ledger.db").version() == 3


def test_the_doctor_names_a_server_that_may_forget(home: Home) -> None:
    home.accounts("acc-1,USD,20,")
    database = home.book.name
    started().run("ALTER TABLE entries DISABLE TRIGGER entries_is_kept", database)
    told = home.run("doctor", "--format", "csv", exit_code=None).stdout
    started().run("ALTER TABLE entries ENABLE TRIGGER entries_is_kept", database)
    assert "fsync = off" in told
    assert "entries.entries_is_kept is switched off" in told


# Cards


def test_sessions_cut_while_two_workers_charge(tmp_path: Path) -> None:
    """Whatever COMMIT it meets: run again, each card is charged once, and the book is what the gateway captured."""
    given = Given(tmp_path / "home")
    for number in range(1, 25):
        given.account(f"acc-{number:02}")
        given.invoice(number=number, account=f"acc-{number:02}")
    database, over, ended = given.home.book.name, threading.Event(), []

    def kill() -> None:
        while not over.wait(0.1):
            ended.append(cut(started(), database))

    runs = [Process(given, workers=4) for _ in range(2)]
    killer = threading.Thread(target=kill)
    killer.start()
    codes = [run.wait() for run in runs]
    over.set()
    killer.join()
    assert sum(ended) > 0
    assert set(codes) <= {0, 1}
    given.collect()
    assert len(given.sandbox.captures()) == 24
    assert_books_equal_captures(given)


@pytest.mark.parametrize("point", ["payment.before_create", "payment.before_confirm", "payment.after_confirm"])
def test_a_frozen_worker_whose_claim_was_lost(tmp_path: Path, point: str) -> None:
    """Its session ends while its machine stands still, and another worker takes the invoice; then it goes on.

    What it still asks for is the very intent that the other has read back: it moves money once. It books nothing.
    """
    given = Given(tmp_path / "home")
    for number in range(1, 4):
        given.account(f"acc-{number}")
        given.invoice(number=number, account=f"acc-{number}")
    frozen = Process(given, point, act=lambda: os.kill(os.getpid(), signal.SIGSTOP))
    assert os.WIFSTOPPED(os.waitpid(frozen.pid, os.WUNTRACED)[1])
    cut(started(), given.home.book.name)
    assert given.collect().counts == {"succeeded": 3}
    while os.WIFSTOPPED(status := gone_on(frozen.pid)):
        pass
    assert os.waitstatus_to_exitcode(status) == 1
    assert len(given.sandbox.captures()) == 3
    assert {row["attempt"] for row in given.table("payments")} == {1}
    assert_books_equal_captures(given)


# Two machines


@pytest.mark.soak
def test_two_machines_share_a_ledger_and_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both take in events and close at once while sessions are cut: it comes out as on one machine on a calm day."""
    lake = f'[lake]\nurl = "{new_store(monkeypatch.setenv).url}"\n'
    machines = [Home(tmp_path / name) for name in ("one", "other")]
    for machine in machines:
        machine.file("metering.toml", f'{lake}[ledger]\nurl = "{ledger_url(machines[0].path)}"\n')
    with ledgers_on(SQLITE):
        calm = Home(tmp_path / "calm")
    for home in (machines[0], calm):
        home.accounts(*(f"acc-{number},USD,19," for number in range(20)))
    for home in (*machines, calm):
        home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    for number, machine in enumerate(machines):
        for file in range(3):
            text = "".join(
                f"2026-05-0{1 + file} ready s{number}{file}-{n} acc=acc-{n} gb=1000\n"
                f"2026-05-09 ready b{file}-{n} acc=acc-{n}\n"
                for n in range(20)
            )
            for home in (machine, calm):
                home.events(text, f"{number}{file}.jsonl")
    over, ended = threading.Event(), []

    def kill() -> None:
        while not over.wait(0.3):
            ended.append(cut(started(), machines[0].book.name))

    killer = threading.Thread(target=kill)
    killer.start()
    seen = set()
    for turn in range(8):
        if turn == 5:
            over.set()
            killer.join()
        runs = [home.start(command) for home, command in zip(machines, ("close", "nightly"), strict=True)]
        for run in runs:
            run.join(600)
            seen.add(run.exitcode)
    assert sum(ended) > 0 and seen <= {0, 1, 3, 75}
    for home in (machines[0], calm):
        home.run("close", "2026-05", exit_code=3)
    for question in (("usage", "--by", "snapshot"), ("report", "invoice-lines"), ("report", "allocations")):
        told = [home.run(*question, "--format", "csv").stdout for home in (*machines, calm)]
        assert told[0] == told[1] == told[2]
    for home in (*machines, calm):
        home.run("verify", "--quiet")
