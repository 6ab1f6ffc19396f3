"""The ledger on a PostgreSQL server.

Writers take turns by a lock on `write_turns`, on every machine, so that transactions never run into each other:
numbers have no gaps, nothing has to be tried again, and each sees all that was committed before it. Every turn
leaves a token there: a writer whose connection was cut during its COMMIT reads back whether it took place. Names
and passwords come from libpq's own variables where the URL does not say them, and are never told.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from uuid import uuid4

import pyarrow as pa
import sqlalchemy as sa

from metering.errors import MeteringError, UsageError
from metering.ledger.book import VERSION, Book, Reading
from metering.ledger.copies import copy_rows
from metering.ledger.sqlite import SqliteBook, empty
from metering.sql import sql

CONNECTIONS = 16
CONNECT_SECONDS = 15
PATIENCE_SECONDS = 60
"""How long a server that restarts is waited for, where only it can say whether a COMMIT took place."""
KEPT_TURNS = 10_000
_SESSION = """
    SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3;
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""
"""The death of a machine frees what it held within a minute, and what was acknowledged is on disk."""
_PLAIN_INSERT = re.compile(r"INSERT INTO (?P<place>[^;]*) VALUES \(%s(?:, %s)*\)")
_REMEDY = (
    "Look at the server, at the rights of this login and at libpq's variables (PGHOST, PGUSER, PGPASSFILE …), then run"
    " the same command again."
)


class _Turn(NamedTuple):
    """One write transaction among all."""

    number: int
    token: str


class PostgresBook(Book):
    """A ledger in the current schema of a PostgreSQL database."""

    def __init__(self, url: str) -> None:
        self._url = sa.make_url(url)
        self.name = str(self._url.database or self._url.query.get("service") or "on PostgreSQL")
        self.aside = "Rename its schema, or name an empty one,"
        self._is_there = False
        self._holds = _Holds(self)

    @property
    def exists(self) -> bool:
        """Whether the tables have been made."""
        if not self._is_there:
            with self.told("read", _REMEDY), self._engine.connect() as con:
                self._is_there = _is_there(con)
        return self._is_there

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A write transaction: committed as a whole at the end, or rolled back."""
        self._holds.check()
        if not self.exists:
            self._create()
        with self.told("written", _REMEDY), self._engine.connect() as con:
            turn = self._take_turn(con)
            try:
                yield con
            except BaseException:
                _roll_back(con)
                raise
            self._commit(con, turn)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent view of the ledger that waits for nobody; an empty one before the first write."""
        if not self.exists:
            with empty() as con:
                yield con
            return
        with self._view() as con:
            self.check_version(_version(con))
            yield con

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Hold a name among all runs on this ledger; False if another run holds it. Death frees it at once."""
        with self.told("read", _REMEDY):
            mine = self._holds.take(name)
        try:
            yield mine
        finally:
            if mine:
                self._holds.free(name)

    def migrate(self, change: Callable[[sa.Connection], None]) -> None:
        """Change a ledger of another version in one transaction; at its end it must be of this one."""
        with self.told("written", _REMEDY), self._engine.connect() as con:
            con.exec_driver_sql("BEGIN")
            try:
                con.exec_driver_sql("LOCK TABLE write_turns IN EXCLUSIVE MODE")
                change(con)
                self.check_version(_version(con))
                self.run_script(con, sql("ledger", "grants.postgresql"))
            except BaseException:
                _roll_back(con)
                raise
            con.exec_driver_sql("COMMIT")

    def prepare(self) -> None:
        """Make the tables if they are not there, and renew the rights of the roles."""
        self.create()
        with self.told("written", _REMEDY), self._engine.connect() as con:
            self.run_script(con, sql("ledger", "grants.postgresql"))

    def close(self) -> None:
        """Let go of the server; what was committed stays."""
        if "_engine" in self.__dict__ and not self._holds.names:
            self._holds.close()
            self.__dict__.pop("_engine").dispose()

    def version(self) -> int | None:
        """The version of its schema; None where there is no ledger yet."""
        if not self.exists:
            return None
        with self.told("read", _REMEDY), self._engine.connect() as con:
            return _version(con)

    def set_version(self, con: sa.Connection) -> None:
        """Say that its schema is now of this engine's version."""
        con.exec_driver_sql("DELETE FROM ledger_version")
        con.exec_driver_sql(f"INSERT INTO ledger_version VALUES ({VERSION})")

    def damage(self, *, thorough: bool) -> str | None:
        """Nothing: the server looks after its own files."""
        return None

    def cautions(self) -> list[tuple[str, str]]:
        """A server that may lose what it acknowledged, and triggers that somebody has switched off."""
        with self.told("read", _REMEDY), self._engine.connect() as con:
            unsafe = [name for name in ("fsync", "full_page_writes") if _setting(con, name) == "off"]
            disabled = con.exec_driver_sql(sql("ledger", "disabled.postgresql")).scalars().all()
        found = [(f"the server runs with {name} = off: it may lose what was charged", "Set it on.") for name in unsafe]
        return found + [
            (f"{name} is switched off", "ALTER TABLE … ENABLE TRIGGER; ask who did it.") for name in disabled
        ]

    def save(self, path: Path) -> None:
        """Write a consistent copy, as a SQLite file, while others may be writing."""
        with TemporaryDirectory(prefix=".ledger-", dir=path.parent) as folder:
            copy = SqliteBook(Path(folder) / path.name)
            with self._view() as here, copy.write() as there:
                copy_rows(here, there)
                # What is to be upgraded is saved first: the copy is of the version of what it is a copy of.
                there.exec_driver_sql(f"PRAGMA user_version = {_version(here)}")
            copy.close()
            copy.save(path)

    def load(self, path: Path) -> bool:
        """Take the place of a ledger that does not exist from such a copy; whether it did."""
        if self.exists:
            return False
        with SqliteBook(path).read() as there, self.write() as here:
            copy_rows(there, here)
        return True

    @contextmanager
    def snapshot(self) -> Iterator[Reading]:
        """Read queries, by ADBC, as Arrow tables that all see one state of the ledger."""
        try:
            from adbc_driver_postgresql import dbapi
        except ImportError:
            raise _no_extra() from None
        uri = self._url.set(drivername="postgresql").render_as_string(hide_password=False)

        def read(query: str, schema: pa.Schema) -> pa.Table:
            cursor.execute(query)
            return cursor.fetch_arrow_table().cast(schema)

        with self.told("read", _REMEDY, dbapi.Error), dbapi.connect(uri) as ledger, ledger.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield read

    def run_script(self, con: sa.Connection, script: str) -> None:
        """Run the statements of a script."""
        con.connection.driver_connection.execute(script)  # type: ignore[union-attr]

    @contextmanager
    def _view(self) -> Iterator[sa.Connection]:
        with self.told("read", _REMEDY), self._engine.connect() as con:
            con.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            try:
                yield con
            finally:
                _roll_back(con)

    # Connecting

    @cached_property
    def _engine(self) -> sa.Engine:
        try:
            from metering.ledger.psycopg_types import configure
        except ImportError:
            raise _no_extra() from None
        said = {"connect_timeout": CONNECT_SECONDS, "application_name": "metering"}
        engine = sa.create_engine(
            self._url,
            isolation_level="AUTOCOMMIT",
            use_native_hstore=False,
            connect_args={name: value for name, value in said.items() if name not in self._url.query},
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=PATIENCE_SECONDS,
            pool_pre_ping=True,
        )

        def prepare(connection: Any, _: object) -> None:
            connection.autocommit = True
            configure(connection)
            connection.execute(_SESSION)

        sa.event.listen(engine, "connect", prepare)
        sa.event.listen(engine, "do_executemany", _copy)
        return engine

    def session(self) -> sa.Connection:
        """A connection that stays until it is closed."""
        return self._engine.connect()

    def _create(self) -> None:
        with (
            self.told("written", "Have the owner of its schema run `metering upgrade`."),
            self._engine.connect() as con,
        ):
            con.exec_driver_sql("BEGIN")
            try:
                con.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_key(con, 'create')})")
                if not _is_there(con):
                    _check_place(con)
                    self.run_script(con, sql("ledger", "server.postgresql"))
                    self.create_missing(con)
                    self.run_script(con, sql("ledger", "balanced.postgresql"))
                    self.run_script(con, sql("ledger", "grants.postgresql"))
                    self.set_version(con)
            except BaseException:
                _roll_back(con)
                raise
            con.exec_driver_sql("COMMIT")

    # Turns

    def _take_turn(self, con: sa.Connection) -> _Turn:
        """Wait for this writer's turn; the transaction's view begins after that, so nothing can change under it."""
        token = uuid4().hex
        con.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; LOCK TABLE write_turns IN EXCLUSIVE MODE")
        try:
            number, version = con.exec_driver_sql(
                f"INSERT INTO write_turns SELECT coalesce(max(turn), 0) + 1, '{token}' FROM write_turns"
                " RETURNING turn, (SELECT version FROM ledger_version)"
            ).one()
            self.check_version(version)
            if number % KEPT_TURNS == 0:
                con.exec_driver_sql(f"DELETE FROM write_turns WHERE turn <= {number - KEPT_TURNS}")
        except BaseException:
            _roll_back(con)
            raise
        return _Turn(number, token)

    def _commit(self, con: sa.Connection, turn: _Turn) -> None:
        try:
            con.exec_driver_sql("COMMIT")
        except sa.exc.DBAPIError as error:
            if not error.connection_invalidated or not self._took_place(turn):
                raise

    def _took_place(self, turn: _Turn) -> bool:
        """Whether a transaction is there; asked once the server has ended the one whose connection was cut."""
        waited = threading.Event()
        for left in reversed(range(PATIENCE_SECONDS)):
            try:
                with self._engine.connect() as con:
                    con.exec_driver_sql("BEGIN; LOCK TABLE write_turns IN EXCLUSIVE MODE")
                    query = f"SELECT turn FROM write_turns WHERE token = '{turn.token}'"
                    found = con.exec_driver_sql(query).scalar_one_or_none()
                    _roll_back(con)
                return found == turn.number
            except sa.exc.DBAPIError:
                if not left:
                    break
                waited.wait(1)
        raise MeteringError(
            f"The connection to the ledger {self.name} was cut during a COMMIT, and the server cannot be asked whether"
            " it took place.",
            unchanged="The last step is in the ledger whole or not at all.",
            remedy="Run the same command again when the server is back: it goes on from what is there.",
        )


class _Holds:
    """The names that this process holds: advisory locks of one connection, freed by the server when it ends."""

    def __init__(self, book: PostgresBook) -> None:
        self._book = book
        self._con: sa.Connection | None = None
        self._lock = threading.Lock()
        self.names: set[str] = set()

    def take(self, name: str) -> bool:
        """Hold a name; False if it is held already, here or elsewhere."""
        with self._lock:
            if name in self.names:
                return False
            self._check()
            if self._con is None or self._con.invalidated:
                self._con = self._book.session()
            taken = self._con.exec_driver_sql(f"SELECT pg_try_advisory_lock({_key(self._con, name)})").scalar_one()
            if taken:
                self.names.add(name)
            return bool(taken)

    def free(self, name: str) -> None:
        """Let go of a name."""
        with self._lock:
            self.names.discard(name)
            if self._con is not None:
                # A connection that was cut holds nothing any more.
                with suppress(sa.exc.DBAPIError, sa.exc.InvalidRequestError):
                    self._con.exec_driver_sql(f"SELECT pg_advisory_unlock({_key(self._con, name)})")

    def check(self) -> None:
        """Refuse to go on where the server has ended the connection: another run may hold the names by now."""
        if self.names:
            with self._lock:
                self._check()

    def _check(self) -> None:
        if self._con is not None and not _answers(self._con) and self.names:
            raise MeteringError(
                f"The connection by which this run held the ledger {self._book.name} was cut.",
                unchanged="What was committed stays; nothing was written since.",
                remedy="Run the same command again.",
            )

    def close(self) -> None:
        """Let go of the connection."""
        with self._lock:
            if self._con is not None:
                self._con.close()
                self._con = None


def _copy(cursor: Any, statement: str, rows: Iterable[Sequence[Any]], context: object) -> bool:
    """Send the many rows of a plain INSERT by COPY: it takes both sides a third of the work of as many INSERTs."""
    match = _PLAIN_INSERT.fullmatch(statement)
    if match is None:
        return False
    with cursor.copy(f"COPY {match['place']} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
    return True


def _answers(con: sa.Connection) -> bool:
    if con.invalidated:
        return False
    try:
        con.exec_driver_sql("SELECT 1")
    except sa.exc.DBAPIError:
        return False
    return True


def _key(con: sa.Connection, name: str) -> int:
    """The number that stands for a name in this schema; a collision only makes a run skip, never overlap."""
    place = f"{con.dialect.default_schema_name}/{name}"
    return int.from_bytes(blake2b(place.encode(), digest_size=8).digest(), "big", signed=True)


def _is_there(con: sa.Connection) -> bool:
    query = "SELECT to_regclass(quote_ident(current_schema()) || '.ledger_version') IS NOT NULL"
    return bool(con.exec_driver_sql(query).scalar_one())


def _version(con: sa.Connection) -> int | None:
    found = con.exec_driver_sql("SELECT version FROM ledger_version").scalar_one_or_none()
    return None if found is None else int(found)


def _setting(con: sa.Connection, name: str) -> str:
    return str(con.exec_driver_sql(f"SHOW {name}").scalar_one())


def _check_place(con: sa.Connection) -> None:
    """Refuse a database that cannot hold the book."""
    schema = con.exec_driver_sql("SELECT current_schema()").scalar_one()
    if schema is None:
        raise UsageError(
            "[ledger] url: the schema that its search_path names does not exist, or this user may not use it.",
            unchanged="Nothing was written.",
            remedy="CREATE SCHEMA, or name another one: …?options=-csearch_path%3Dbilling.",
        )
    encoding = _setting(con, "server_encoding")
    if encoding != "UTF8":
        raise UsageError(
            f"[ledger] url: the database is in {encoding}; names of customers need UTF8.",
            unchanged="Nothing was written.",
            remedy="CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and name that one.",
        )


def _roll_back(con: sa.Connection) -> None:
    # A connection that was cut has nothing to roll back.
    with suppress(sa.exc.DBAPIError, sa.exc.InvalidRequestError):
        con.exec_driver_sql("ROLLBACK")


def _no_extra() -> UsageError:
    return UsageError(
        "[ledger] url: PostgreSQL needs psycopg and its ADBC driver.",
        unchanged="Nothing was read or written.",
        remedy='Install the extra: pip install "metering[postgres]".',
    )
