"""The one door to the ledger's database: what every engine's book can do, and how rows go in and out of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from metering.errors import MeteringError, UsageError
from metering.ledger.tables import WHERE, metadata
from metering.schema import table as schema
from metering.schema import tables
from metering.sql import sql

MOST_VALUES = 10_000
"""Values in one condition of a statement."""
MOST_ROWS = 10_000
"""Rows that are handed to the database at once."""
VERSION = 7
"""The version of the ledger's schema, kept in the database itself."""


Reading = Callable[[str, pa.Schema], pa.Table]
"""Asks a query for columns of the given types."""


class Book(ABC):
    """A ledger; one writer at a time, on every engine, and readers that never wait and are never waited for."""

    name: str
    """What messages call it."""
    aside: str
    """How a person moves it out of the way."""
    files: tuple[Path, ...] = ()
    """The files on this machine that it is kept in; none where a server keeps it."""

    @property
    @abstractmethod
    def exists(self) -> bool:
        """Whether the ledger has been created."""

    @abstractmethod
    def write(self) -> AbstractContextManager[sa.Connection]:
        """A write transaction: committed as a whole at the end, or rolled back."""

    @abstractmethod
    def read(self) -> AbstractContextManager[sa.Connection]:
        """A consistent view of the ledger that waits for nobody; an empty one before the first write."""

    @abstractmethod
    def claim(self, name: str) -> AbstractContextManager[bool]:
        """Hold a name among all runs on this ledger; False if another run holds it. Death frees it at once."""

    @abstractmethod
    def migrate(self, change: Callable[[sa.Connection], None]) -> None:
        """Change a ledger of another version in one transaction; at its end it must be of this one."""

    @abstractmethod
    def prepare(self) -> None:
        """Make what only the owner of a server's database may make: tables, and rights on them."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the database; what was committed stays."""

    @abstractmethod
    def version(self) -> int | None:
        """The version of its schema; None where there is no ledger yet."""

    @abstractmethod
    def set_version(self, con: sa.Connection) -> None:
        """Say that its schema is now of this engine's version."""

    @abstractmethod
    def damage(self, *, thorough: bool) -> str | None:
        """What is broken in the database itself, found quickly or thoroughly."""

    @abstractmethod
    def cautions(self) -> list[tuple[str, str]]:
        """What will hurt later, each with its remedy."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write a consistent copy, as a SQLite file, while others may be writing."""

    @abstractmethod
    def load(self, path: Path) -> bool:
        """Take the place of a ledger that does not exist from such a copy; whether it did."""

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[Reading]:
        """Read queries as Arrow tables that all see one state of the ledger."""

    @abstractmethod
    def run_script(self, con: sa.Connection, script: str) -> None:
        """Run the statements of a script."""

    @contextmanager
    def rehearse(self) -> Iterator[sa.Connection]:
        """A write transaction that is rolled back at its end, whatever was written in it."""
        if not self.exists:
            with self.read() as con:
                yield con
            return
        try:
            with self.write() as con:
                yield con
                raise _Rehearsed
        except _Rehearsed:
            pass

    def create(self) -> None:
        """Make the tables if they are not there."""
        with self.write():
            pass

    def create_missing(self, con: sa.Connection) -> None:
        """Make every table that is not there yet, with the triggers that keep its rows; `con` is in a transaction."""
        there = set(sa.inspect(con).get_table_names())
        for index in (index for table in metadata().tables.values() for index in table.indexes if WHERE in index.info):
            index.dialect_options[con.dialect.name]["where"] = sa.text(index.info[WHERE])
        metadata().create_all(con)
        for table in tables().values():
            if table.stored == "ledger" and table.name not in there:
                columns = metadata().tables[table.name].c
                fixed = ", ".join(f'"{column.name}"' for column in columns if column.name not in table.mutable)
                script = sql("ledger", f"append_only.{con.dialect.name}")
                self.run_script(con, script.format(table=table.name, fixed=fixed))

    @contextmanager
    def told(
        self, done: str, remedy: str, failure: type[Exception] | tuple[type[Exception], ...] = sa.exc.DatabaseError
    ) -> Iterator[None]:
        """Tell what the database, or a driver, refuses as an error of ours; a broken constraint is the caller's."""
        try:
            yield
        except failure as error:
            if isinstance(error, sa.exc.IntegrityError):
                raise
            reason = str(getattr(error, "orig", error)).strip().partition("\n")[0]
            raise MeteringError(
                f"The ledger {self.name} cannot be {done}: {reason}.",
                unchanged="The ledger is as it was.",
                remedy=remedy,
            ) from error

    def check_version(self, version: int | None) -> None:
        """Refuse a ledger of another version than this engine's."""
        if version != VERSION:
            raise UsageError(
                f"The ledger {self.name} has schema version {version}; this engine knows {VERSION}.",
                unchanged="The ledger is as it was.",
                remedy="Use the version of metering that wrote it."
                if version is not None and version > VERSION
                else "Run `metering upgrade`: it makes a backup first.",
            )


class _Rehearsed(Exception):
    """Ends a rehearsal without committing it."""


def open_book(url: str, folder: Path) -> Book:
    """The ledger of a URL; a path in it is relative to the folder."""
    if url.startswith("sqlite:///"):
        from metering.ledger.sqlite import SqliteBook

        return SqliteBook(folder / url.removeprefix("sqlite:///"))
    from metering.ledger.postgres import PostgresBook

    return PostgresBook(url)


def insert(con: sa.Connection, table: str, records: Iterable[Mapping[str, Any]]) -> None:
    """Add rows to a table; all of them name the same columns."""
    listed: Sequence[Mapping[str, Any]] = list(records)
    if listed:
        names = tuple(name for name in listed[0] if name != "recorded")
        insert_rows(con, table, names, (tuple(map(record.__getitem__, names)) for record in listed))


def insert_rows(con: sa.Connection, table: str, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Add rows, each the values of the named columns, to a table: as many at a time as memory should hold."""
    found = metadata().tables[table]
    if "recorded" in found.c:
        last = con.scalar(sa.select(sa.func.max(found.c.recorded))) or 0
        names = ("recorded", *names)
        rows = ((last + count, *row) for count, row in enumerate(rows, 1))
    put_rows(con, table, names, rows)


def put_rows(con: sa.Connection, table: str, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Add rows that are numbered already: `recorded` is among the named columns where a table has it."""
    # The driver gets the rows as they are: SQLAlchemy's own work on each costs more than storing it.
    statement, encoders = _insertion(metadata().tables[table], tuple(names), con.dialect)
    listed = iter(rows)
    while part := list(islice(listed, MOST_ROWS)):
        con.exec_driver_sql(statement, [_encoded(row, encoders) for row in part] if encoders else part)


def hand_in(con: sa.Connection, name: str, column: str, texts: Iterable[str]) -> None:
    """Hand in texts, each once, as a temporary table of one column, which the next of that name replaces."""
    con.exec_driver_sql(f"CREATE TEMP TABLE IF NOT EXISTS {name} ({column} TEXT PRIMARY KEY)")
    con.exec_driver_sql(f"DELETE FROM {name}")
    con.exec_driver_sql(f"INSERT INTO {name} VALUES ({_sign(con.dialect)})", [(text,) for text in texts])


Encoders = dict[int, Callable[[Any], Any]]
"""What makes of a value what the driver takes, by its place in a row."""


def _encoded(row: Sequence[Any], encoders: Encoders) -> tuple[Any, ...]:
    values = list(row)
    for place, encode in encoders.items():
        values[place] = encode(values[place])
    return tuple(values)


@lru_cache
def _insertion(table: sa.Table, names: tuple[str, ...], dialect: sa.Dialect) -> tuple[str, Encoders]:
    """The statement with a parameter for each column, and the encoders of the columns that need one."""
    quote = dialect.identifier_preparer.quote
    processors = (table.c[name].type.dialect_impl(dialect).bind_processor(dialect) for name in names)
    sign = _sign(dialect)
    columns = ", ".join(quote(name) for name in names)
    statement = f"INSERT INTO {quote(table.name)} ({columns}) VALUES ({', '.join([sign] * len(names))})"
    return statement, {place: encode for place, encode in enumerate(processors) if encode is not None}


def _sign(dialect: sa.Dialect) -> str:
    """What stands for a value in a statement of a driver's own."""
    return "?" if dialect.paramstyle == "qmark" else "%s"


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
