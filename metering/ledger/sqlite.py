"""The ledger in a SQLite file."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from metering.errors import MeteringError
from metering.ledger.book import VERSION, Book
from metering.sql import sql

BUSY_SECONDS = 60
LARGE_LOG = 2**28
"""Bytes of a write-ahead log that no checkpoint has emptied."""


class SqliteBook(Book):
    """A ledger in a SQLite file; its schema's version is `PRAGMA user_version`.

    Every write transaction holds a file lock beside the database, because SQLite before 3.51.3 can lose a WAL file
    when two connections write at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.aside = f"Move {path.name} away"
        self.files = tuple(path.with_name(f"{path.name}{suffix}") for suffix in ("", "-wal", "-shm"))
        self._engine: sa.Engine | None = None

    @property
    def exists(self) -> bool:
        """Whether the file is there."""
        return self.path.exists()

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A write transaction: committed as a whole at the end, or rolled back."""
        remedy = "Make room or wait for the other program, then run the same command again."
        with self._turn(), self.told("written", remedy):
            if self._engine is None:
                self._engine = self._open()
            with self._engine.connect() as con:
                con.exec_driver_sql("BEGIN IMMEDIATE")
                try:
                    yield con
                except BaseException:
                    # A full disk has SQLite roll back by itself.
                    if con.connection.in_transaction:
                        con.exec_driver_sql("ROLLBACK")
                    raise
                con.exec_driver_sql("COMMIT")

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent view of the ledger that waits for nobody; an empty one before the first write."""
        if not self.exists:
            with empty() as con:
                yield con
            return
        remedy = "Look at disk space and the file; if it is damaged, restore it from a backup."
        with self.told("read", remedy), _reader(self.path) as con:
            con.exec_driver_sql("BEGIN")
            self.check_version(_version(con))
            yield con

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Hold a name among all runs on this ledger; False if another run holds it. Death frees it at once."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path.with_name(f".{self.path.name}.claims"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # One byte of an empty file stands for each name; a collision only makes a run skip, never overlap.
            place = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big")
            wanted = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0)
            try:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                yield False
                return
            yield True
        finally:
            os.close(descriptor)

    def migrate(self, change: Callable[[sa.Connection], None]) -> None:
        """Change a ledger of another version in one transaction; at its end it must be of this one."""
        with self._turn():
            engine = self._connect()
            try:
                with engine.connect() as con:
                    con.exec_driver_sql("BEGIN IMMEDIATE")
                    try:
                        change(con)
                        self.check_version(_version(con))
                    except BaseException:
                        con.exec_driver_sql("ROLLBACK")
                        raise
                    con.exec_driver_sql("COMMIT")
            finally:
                engine.dispose()

    def prepare(self) -> None:
        """Nothing: the first write makes the file, and its owner may do everything."""

    def close(self) -> None:
        """Let go of the database; what was committed stays."""
        if self._engine is not None:
            with self._turn():
                self._engine.dispose()
            self._engine = None

    def version(self) -> int | None:
        """The version of its schema; None where there is no ledger yet, or one that was cut off while it was made."""
        if not self.exists:
            return None
        with closing(_connect_read_only(self.path)) as con:
            return int(con.execute("PRAGMA user_version").fetchone()[0]) or None

    def set_version(self, con: sa.Connection) -> None:
        """Say that its schema is now of this engine's version."""
        con.exec_driver_sql(f"PRAGMA user_version = {VERSION}")

    def damage(self, *, thorough: bool) -> str | None:
        """What is broken in the file, found quickly or thoroughly."""
        if not self.exists:
            return None
        try:
            with closing(_connect_read_only(self.path)) as con:
                return _damage(con, "integrity_check" if thorough else "quick_check")
        except sqlite3.OperationalError as error:
            # A full disk, or another program, says nothing about the ledger.
            raise MeteringError(
                f"The ledger {self.name} cannot be read: {error}.",
                unchanged="The ledger is as it was.",
                remedy="Make room or wait for the other program, then run the same command again.",
            ) from None
        except sqlite3.DatabaseError as error:
            return str(error)

    def cautions(self) -> list[tuple[str, str]]:
        """A log that grows because a reader holds the file open."""
        log = self.files[1]
        size = log.stat().st_size if log.exists() else 0
        told = f"{log.name} has {size / 10**6:.0f} MB: a reader holds it open"
        return [(told, "End readers that run for hours.")] if size > LARGE_LOG else []

    def save(self, path: Path) -> None:
        """Write a consistent copy while others may be writing."""
        copy_sqlite(self.path, path)

    def load(self, path: Path) -> bool:
        """Put a copy in the place of a file that does not exist; whether it did."""
        if self.exists:
            return False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.part")
        shutil.copyfile(path, part)
        part.chmod(0o600)
        _sync(part)
        part.replace(self.path)
        _sync(self.path.parent)
        return True

    @contextmanager
    def snapshot(self) -> Iterator[Any]:
        """A connection of ADBC whose reads all see one state of the ledger."""
        from adbc_driver_sqlite import dbapi

        # The connection does not commit by itself, so that all reads lie in one transaction.
        with dbapi.connect(f"file:{quote(str(self.path))}?mode=ro") as ledger:
            with ledger.cursor() as cursor:
                cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
            yield ledger

    def run_script(self, con: sa.Connection, script: str) -> None:
        """Run the statements of a script."""
        statement = ""
        for line in script.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                con.exec_driver_sql(statement)
                statement = ""

    @contextmanager
    def _turn(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path.with_name(f".{self.path.name}.writer"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _open(self) -> sa.Engine:
        if not self.exists:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        engine = self._connect()
        with engine.connect() as con:
            if not _version(con):
                self._create(con)
            self.check_version(_version(con))
        return engine

    def _connect(self) -> sa.Engine:
        engine = sa.create_engine(
            f"sqlite:///{self.path}",
            isolation_level="AUTOCOMMIT",
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
            poolclass=sa.pool.QueuePool,
        )
        sa.event.listen(engine, "connect", _configure)
        return engine

    def _create(self, con: sa.Connection) -> None:
        con.exec_driver_sql("BEGIN IMMEDIATE")
        self.create_missing(con)
        self.run_script(con, sql("ledger", "balanced.sqlite"))
        self.set_version(con)
        con.exec_driver_sql("COMMIT")


_wanted: ContextVar[Path] = ContextVar("_wanted")


def _reader(path: Path) -> sa.Connection:
    """A connection of its own to read a ledger, which nobody keeps."""
    token = _wanted.set(path)
    try:
        return _reading().connect()
    finally:
        _wanted.reset(token)


@cache
def _reading() -> sa.Engine:
    """One for all ledgers, so that a process compiles a statement once."""
    return sa.create_engine("sqlite://", creator=lambda: _connect_read_only(_wanted.get()), poolclass=sa.pool.NullPool)


@contextmanager
def empty() -> Iterator[sa.Connection]:
    """A ledger in which nothing was ever written; it is nowhere on disk."""
    engine = sa.create_engine("sqlite://", isolation_level="AUTOCOMMIT")
    with engine.connect() as con:
        SqliteBook(Path(":memory:"))._create(con)
        yield con


def copy_sqlite(source: Path, target: Path) -> None:
    """A consistent copy of a database that others may be writing to, as one file without a log."""
    with closing(_connect_read_only(source)) as here, closing(sqlite3.connect(target)) as there:
        try:
            here.backup(there)
            there.execute("PRAGMA journal_mode = DELETE")
            found = _damage(there, "integrity_check")
        except sqlite3.OperationalError as error:
            # A full disk says nothing about the source.
            raise MeteringError(
                f"{source} cannot be copied to {target}: {error}.",
                unchanged="No backup was made.",
                remedy="Make room or wait for the other program, then run the same command again.",
            ) from None
        except sqlite3.DatabaseError as error:
            found = str(error)
    if found:
        raise MeteringError(
            f"{source} is damaged: {found}.",
            unchanged="No backup was made.",
            remedy="Run `metering verify`, and keep the earlier backups.",
        )
    target.chmod(0o600)


def _damage(con: sqlite3.Connection, check: str) -> str | None:
    found = con.execute(f"PRAGMA {check}(1)").fetchone()[0]
    return None if found == "ok" else str(found)


def _version(con: sa.Connection) -> int:
    return int(con.exec_driver_sql("PRAGMA user_version").scalar_one())


def _connect_read_only(path: Path) -> sqlite3.Connection:
    """A connection that begins its transactions only where it is told to."""
    address = f"file:{_escape(path)}?mode=ro"
    return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)


def _escape(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _configure(connection: sqlite3.Connection, _: object) -> None:
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "recursive_triggers = ON",
        "trusted_schema = OFF",
    ):
        connection.execute(f"PRAGMA {pragma}").close()
