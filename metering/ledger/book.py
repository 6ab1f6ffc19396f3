"""The one door to the ledger's database."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from metering.errors import MeteringError, UsageError
from metering.ledger.tables import metadata
from metering.schema import table as schema
from metering.schema import tables
from metering.sql import sql

BUSY_SECONDS = 60
MOST_VALUES = 10_000
"""Values in one condition of a statement."""
MOST_ROWS = 10_000
"""Rows that are handed to the database at once."""
VERSION = 4
"""The version of the ledger's schema, kept in the database itself (`PRAGMA user_version`)."""


class Book:
    """A ledger in a SQLite file.

    One writer at a time: every write transaction holds a file lock beside the database, because SQLite before
    3.51.3 can lose a WAL file when two connections write at once. Readers never wait and are never waited for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine: sa.Engine | None = None

    @property
    def exists(self) -> bool:
        """Whether the ledger has been created."""
        return self.path.exists()

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A write transaction: committed as a whole at the end, or rolled back."""
        with self._turn():
            try:
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
            except sa.exc.DatabaseError as error:
                if isinstance(error, sa.exc.IntegrityError):
                    raise
                raise MeteringError(
                    f"The ledger {self.path.name} cannot be written: {error.orig}.",
                    unchanged="The ledger is as it was.",
                    remedy="Make room or wait for the other program, then run the same command again.",
                ) from error

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent view of the ledger that waits for nobody; an empty one before the first write."""
        if not self.exists:
            with _empty() as con:
                yield con
            return
        try:
            with self._reader.connect() as con:
                con.exec_driver_sql("BEGIN")
                self._check_version(con)
                yield con
        except sa.exc.DatabaseError as error:
            if isinstance(error, sa.exc.IntegrityError):
                raise
            raise MeteringError(
                f"The ledger {self.path.name} cannot be read: {error.orig}.",
                unchanged="The ledger is as it was.",
                remedy="Look at disk space and the file; if it is damaged, restore it from a backup.",
            ) from error

    @cached_property
    def _reader(self) -> sa.Engine:
        """Opens a connection of its own for each reading, and keeps none."""
        return sa.create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(
                f"file:{_escape(self.path)}?mode=ro", uri=True, timeout=BUSY_SECONDS, isolation_level=None
            ),
            poolclass=sa.pool.NullPool,
        )

    @contextmanager
    def rehearse(self) -> Iterator[sa.Connection]:
        """A write transaction that is rolled back at its end, whatever was written in it."""
        if not self.exists:
            with _empty() as con:
                yield con
            return
        try:
            with self.write() as con:
                yield con
                raise _Rehearsed
        except _Rehearsed:
            pass

    def migrate(self, change: Callable[[sa.Connection], None]) -> None:
        """Change a ledger of another version in one transaction; at its end it must be of this one."""
        with self._turn():
            engine = self._connect()
            try:
                with engine.connect() as con:
                    con.exec_driver_sql("BEGIN IMMEDIATE")
                    try:
                        change(con)
                        self._check_version(con)
                    except BaseException:
                        con.exec_driver_sql("ROLLBACK")
                        raise
                    con.exec_driver_sql("COMMIT")
            finally:
                engine.dispose()

    def create(self) -> None:
        """Make the tables if they are not there."""
        with self.write():
            pass

    def close(self) -> None:
        """Let go of the database; what was committed stays."""
        if self._engine is not None:
            with self._turn():
                self._engine.dispose()
            self._engine = None

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Hold a name among all runs on this ledger; False if another run holds it. Death frees it at once."""
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
            if con.exec_driver_sql("PRAGMA user_version").scalar_one() == 0:
                _create(con)
            self._check_version(con)
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

    def _check_version(self, con: sa.Connection) -> None:
        version = con.exec_driver_sql("PRAGMA user_version").scalar_one()
        if version != VERSION:
            raise UsageError(
                f"The ledger {self.path.name} has schema version {version}; this engine knows {VERSION}.",
                unchanged="The ledger is as it was.",
                remedy="Use the version of metering that wrote it."
                if version > VERSION
                else "Run `metering upgrade`: it makes a backup first.",
            )


class _Rehearsed(Exception):
    """Ends a rehearsal without committing it."""


@contextmanager
def _empty() -> Iterator[sa.Connection]:
    """A ledger in which nothing was ever written; it is nowhere on disk."""
    engine = sa.create_engine("sqlite://", isolation_level="AUTOCOMMIT")
    with engine.connect() as con:
        _create(con)
        yield con


def _escape(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _configure(connection: sqlite3.Connection, _: object) -> None:
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "recursive_triggers = ON",
        "trusted_schema = OFF",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _create(con: sa.Connection) -> None:
    con.exec_driver_sql("BEGIN IMMEDIATE")
    create_missing(con)
    _run(con, sql("ledger", "balanced.sqlite"))
    con.exec_driver_sql(f"PRAGMA user_version = {VERSION}")
    con.exec_driver_sql("COMMIT")


def create_missing(con: sa.Connection) -> None:
    """Make every table that is not there yet, with the triggers that keep its rows; `con` is in a transaction."""
    there = set(sa.inspect(con).get_table_names())
    metadata().create_all(con)
    for table in tables().values():
        if table.stored == "ledger" and table.name not in there:
            fixed = ", ".join(
                f'"{column.name}"' for column in metadata().tables[table.name].c if column.name not in table.mutable
            )
            _run(con, sql("ledger", "append_only.sqlite").format(table=table.name, fixed=fixed))


def _run(con: sa.Connection, script: str) -> None:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            con.exec_driver_sql(statement)
            statement = ""


def insert(con: sa.Connection, table: str, records: Iterable[Mapping[str, Any]]) -> None:
    """Add rows to a table; all of them name the same columns."""
    listed: Sequence[Mapping[str, Any]] = list(records)
    if listed:
        names = tuple(listed[0])
        insert_rows(con, table, names, (tuple(map(record.__getitem__, names)) for record in listed))


def insert_rows(con: sa.Connection, table: str, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Add rows, each the values of the named columns, to a table: as many at a time as memory should hold."""
    found = metadata().tables[table]
    if "recorded" in found.c:
        last = con.scalar(sa.select(sa.func.max(found.c.recorded))) or 0
        names = ("recorded", *names)
        rows = ((last + count, *row) for count, row in enumerate(rows, 1))
    # The driver gets the rows as they are: SQLAlchemy's own work on each costs more than storing it.
    statement, wide = _insertion(found, tuple(names), con.dialect)
    for place in wide:
        rows = ((*row[:place], str(row[place]), *row[place + 1 :]) for row in rows)
    listed = iter(rows)
    while part := list(islice(listed, MOST_ROWS)):
        con.exec_driver_sql(statement, part)


@lru_cache
def _insertion(table: sa.Table, names: tuple[str, ...], dialect: sa.Dialect) -> tuple[str, list[int]]:
    """The statement with a parameter for each column, and the places of integers that are stored as digits."""
    quote = dialect.identifier_preparer.quote
    wide = [place for place, name in enumerate(names) if isinstance(table.c[name].type, sa.TypeDecorator)]
    sign = "?" if dialect.paramstyle == "qmark" else "%s"
    columns = ", ".join(quote(name) for name in names)
    return f"INSERT INTO {quote(table.name)} ({columns}) VALUES ({', '.join([sign] * len(names))})", wide


def change(con: sa.Connection, table: str, key: Mapping[str, Any], **values: Any) -> None:
    """Change the columns of one row that may change."""
    found = metadata().tables[table]
    con.execute(found.update().where(*(found.c[name] == value for name, value in key.items())).values(**values))


def rows(con: sa.Connection, table: str, **where: Any) -> list[dict[str, Any]]:
    """The rows of a table with the given values, in key order; a list or a set stands for any of its values."""
    found = metadata().tables[table]
    known = schema(table)
    query = sa.select(*(found.c[name] for name in known.names)).order_by(*(found.c[name] for name in known.key))
    many: list[tuple[str, list[Any]]] = []
    for name, value in where.items():
        if isinstance(value, (list, set)):
            many.append((name, list(dict.fromkeys(value))))
        else:
            query = query.where(found.c[name] == value)
    taken = [row for part in _parts(query, found, many) for row in con.execute(part).all()]
    if any(len(values) > MOST_VALUES for _, values in many):
        places = [known.names.index(name) for name in known.key]
        taken.sort(key=lambda row: [row[place] for place in places])
    names = known.names
    return [dict(zip(names, row, strict=True)) for row in taken]


def _parts(query: sa.Select[Any], table: sa.Table, many: list[tuple[str, list[Any]]]) -> Iterator[sa.Select[Any]]:
    """The query for some values at a time: a statement takes no more than 32,766 (SQLite's limit)."""
    if not many:
        yield query
        return
    (name, values), *rest = many
    for start in range(0, max(len(values), 1), MOST_VALUES):
        yield from _parts(query.where(table.c[name].in_(values[start : start + MOST_VALUES])), table, rest)
