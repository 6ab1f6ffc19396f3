"""The ledger in a SQLite file."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import sqlite3
import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from metering.durable import sync
from metering.errors import MeteringError
from metering.ledger.book import VERSION, Book, Reading
from metering.sql import sql

BUSY_SECONDS = 60
ROWS_AT_ONCE = 50_000
"""Rows that a report takes from the database at once."""
_LOOK = "Look at disk space and the file; if it is damaged, restore it from a backup."
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
        self._con: sa.Connection | None = None
        self._begun = False
        """Whether the file was seen to hold something."""
        self._idle: deque[sa.Connection] = deque()
        """Connections that readers have left; only while there is one to write."""

    @property
    def exists(self) -> bool:
        """Whether there is a ledger; a file that holds nothing is none."""
        return self.path.exists() and not self._is_blank()

    def _is_blank(self) -> bool:
        """Whether the file holds nothing: emptied, or cut off while it was made. Damage is told where it is read."""
        if not self._begun:
            try:
                with closing(_connect_read_only(self.path)) as con:
                    self._begun = con.execute("PRAGMA schema_version").fetchone()[0] != 0
            except sqlite3.DatabaseError:
                return False
        return not self._begun

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A write transaction: committed as a whole at the end, or rolled back."""
        remedy = "Make room or wait for the other program, then run the same command again."
        with self._turn(), self.told("written", remedy, (sa.exc.DatabaseError, sqlite3.DatabaseError)):
            if self._con is None:
                self._con = self._open()
            with _whole(self._con):
                yield self._con

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent view of the ledger that waits for nobody; an empty one before the first write."""
        if not self.exists:
            with empty() as con:
                yield con
            return
        with self.told("read", _LOOK), self._reader() as con:
            con.exec_driver_sql("BEGIN")
            self.check_version(_version(con))
            yield con

    @contextmanager
    def _reader(self) -> Iterator[sa.Connection]:
        """A connection to read. A run's readers hand theirs on: each new one would take in the whole schema first."""
        try:
            con = self._idle.pop()
        except IndexError:
            con = _connected(lambda: _connect_read_only(self.path))
        try:
            yield con
            con.rollback()
        except BaseException:
            con.close()
            raise
        if self._con is None:
            con.close()
        else:
            self._idle.append(con)

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
        with self._turn(), _connected(lambda: _connect(self.path)) as con, _whole(con):
            change(con)
            self.check_version(_version(con))

    def prepare(self) -> None:
        """Nothing: the first write makes the file, and its owner may do everything."""

    def close(self) -> None:
        """Let go of the database; what was committed stays."""
        if self._con is not None:
            with self._turn():
                # The last one to go empties the log into the file, and only a writer can.
                while self._idle:
                    self._idle.pop().close()
                self._con.close()
            self._con = None

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
        told = f"{log.name} has {size // 10**6} MB: a reader holds it open"
        return [(told, "End readers that run for hours.")] if size > LARGE_LOG else []

    def save(self, path: Path) -> None:
        """Write a consistent copy while others may be writing."""
        copy_sqlite(self.path, path)

    def load(self, path: Path) -> bool:
        """Put a copy in the place of a file that does not exist; whether it did."""
        if self.exists:
            return False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self._part()
        shutil.copyfile(path, part)
        self._put(part)
        return True

    def _make(self) -> None:
        """Make an empty ledger in one step: who reads meanwhile, or comes after a kill, finds none or all of it."""
        part = self._part()
        with closing(sqlite3.connect(part, isolation_level=None)) as con:
            con.execute("PRAGMA journal_mode = OFF").close()
            _fill(con)
        self._put(part)

    def _part(self) -> Path:
        """An empty file that nobody else may read, beside the ledger's."""
        part = self.path.with_name(f".{self.path.name}.part")
        for suffix in ("", "-journal", "-wal", "-shm"):
            part.with_name(f"{part.name}{suffix}").unlink(missing_ok=True)
        os.close(os.open(part, os.O_RDWR | os.O_CREAT, 0o600))
        return part

    def _put(self, part: Path) -> None:
        """Put a whole file in the ledger's place, and what is left there of one that is gone out of its way.

        It has a log already: a kill while it gets one would leave what readers may not mend.
        """
        with self.told("made", _LOOK, sqlite3.DatabaseError), closing(sqlite3.connect(part)) as con:
            con.execute("PRAGMA journal_mode = WAL").close()
        sync(part)
        for left in self.files[1:]:
            left.unlink(missing_ok=True)
        part.replace(self.path)
        sync(self.path.parent)

    @contextmanager
    def snapshot(self) -> Iterator[Reading]:
        """Read queries as Arrow tables that all see one state of the ledger.

        It is Python's own SQLite that reads. A driver that brings a second SQLite into the process would break the
        locks of the first one whenever it closes the file: POSIX locks belong to the process, not to who took them
        (https://www.sqlite.org/howtocorrupt.html, 2.2 and 2.2.1).
        """

        def read(query: str, schema: pa.Schema) -> pa.Table:
            cursor = con.execute(query)
            parts = iter(lambda: cursor.fetchmany(ROWS_AT_ONCE), [])
            return pa.Table.from_batches([_batch(rows, schema) for rows in parts], schema)

        with self.told("read", _LOOK, (sa.exc.DatabaseError, sqlite3.DatabaseError)), self._reader() as reader:
            con = _driver(reader)
            reader.exec_driver_sql("BEGIN")
            yield read

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

    def _open(self) -> sa.Connection:
        if not self.exists:
            self._make()
        con = _connected(lambda: _connect(self.path))
        try:
            self.check_version(_version(con))
        except BaseException:
            con.close()
            raise
        return con

    def _create(self, con: sa.Connection) -> None:
        self.create_missing(con)
        self.run_script(con, sql("ledger", "balanced.sqlite"))
        self.set_version(con)


@contextmanager
def _whole(con: sa.Connection) -> Iterator[None]:
    """A write transaction: committed as a whole at the end, or rolled back."""
    try:
        con.exec_driver_sql("BEGIN IMMEDIATE")
        yield
        con.exec_driver_sql("COMMIT")
    finally:
        # Also where a full disk had SQLite roll back by itself.
        con.rollback()


_opener: ContextVar[Callable[[], sqlite3.Connection]] = ContextVar("_opener")


def _connected(opener: Callable[[], sqlite3.Connection]) -> sa.Connection:
    """A connection of its own, which nobody keeps when it is closed."""
    token = _opener.set(opener)
    try:
        return _engine().connect()
    finally:
        _opener.reset(token)


@cache
def _engine() -> sa.Engine:
    """One for all ledgers, so that a process compiles a statement once."""
    return sa.create_engine("sqlite://", creator=lambda: _opener.get()(), poolclass=sa.pool.NullPool)


@cache
def _template() -> sa.Connection:
    """An empty ledger, in memory."""
    con = _connected(_in_memory)
    with _whole(con):
        SqliteBook(Path(":memory:"))._create(con)
    return con


def _fill(target: sqlite3.Connection) -> None:
    """Make an empty ledger in a database: a copy, because to define its tables takes long."""
    _driver(_template()).backup(target)


def _driver(con: sa.Connection) -> sqlite3.Connection:
    found = con.connection.driver_connection
    assert isinstance(found, sqlite3.Connection)
    return found


@contextmanager
def empty() -> Iterator[sa.Connection]:
    """A ledger in which nothing was ever written; it is nowhere on disk."""
    with _connected(_in_memory) as con:
        _fill(_driver(con))
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


def _batch(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    return pa.record_batch(
        [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)], schema
    )


def _damage(con: sqlite3.Connection, check: str) -> str | None:
    found = con.execute(f"PRAGMA {check}(1)").fetchone()[0]
    return None if found == "ok" else str(found)


def _version(con: sa.Connection) -> int:
    return int(con.exec_driver_sql("PRAGMA user_version").scalar_one())


def _connect_read_only(path: Path) -> sqlite3.Connection:
    """A connection to read, of whichever thread has it, that begins its transactions only where it is told to."""
    address = f"file:{_escape(path)}?mode=ro"
    return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def _escape(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _connect(path: Path) -> sqlite3.Connection:
    """A connection to write, of whichever thread has its turn."""
    con = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "recursive_triggers = ON",
        "trusted_schema = OFF",
    ):
        con.execute(f"PRAGMA {pragma}").close()
    return con


def _in_memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
