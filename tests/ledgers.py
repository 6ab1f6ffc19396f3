"""The database engines that hold a ledger in a test, and which of them the homes of the running test use."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from postgres_server import Server, server

from metering.ledger.book import Book
from metering.ledger.sqlite import SqliteBook

SQLITE, POSTGRESQL = "sqlite", "postgresql"
ENGINES = (SQLITE, POSTGRESQL)
DEFAULT_URL = "sqlite:///ledger.db"

_engine = SQLITE
_urls: dict[Path, str] = {}


def started() -> Server:
    """The tests' PostgreSQL; skips the test where there can be none."""
    found = server()
    if isinstance(found, str):
        pytest.skip(f"no PostgreSQL: {found}")
    return found


@contextmanager
def ledgers_on(engine: str) -> Iterator[None]:
    """Have every home made meanwhile keep its ledger on an engine; each has a database of its own."""
    global _engine
    kept, _engine = _engine, engine
    before = set(_urls)
    try:
        yield
    finally:
        _engine = kept
        for path in set(_urls) - before:
            started().leave(_urls.pop(path).partition("@/")[2].partition("?")[0])


def ledger_url(home: Path) -> str:
    """Where a home keeps its ledger."""
    if _engine == SQLITE:
        return _urls.get(home, DEFAULT_URL)
    if home not in _urls:
        _urls[home] = started().url(started().ledger())
    return _urls[home]


def with_ledger(home: Path, config: str) -> str:
    """The text of a home's metering.toml, with its ledger unless the text names one."""
    url = ledger_url(home)
    return config if "[ledger]" in config or url == DEFAULT_URL else f'{config}\n[ledger]\nurl = "{url}"\n'


def behind_the_triggers(book: Book, statement: str) -> int:
    """Change a ledger as no writer of ours can; how many rows that was."""
    if isinstance(book, SqliteBook):
        with closing(sqlite3.connect(book.path)) as con, con:
            for (name,) in con.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                con.execute(f"DROP TRIGGER {name}")
            return con.execute(statement).rowcount
    with book.write() as con:
        con.exec_driver_sql("SET session_replication_role = replica")
        count = con.exec_driver_sql(statement).rowcount
        con.exec_driver_sql("SET session_replication_role = origin")
    book.close()
    return count


def pretend(book: Book, version: int) -> None:
    """Have a ledger say that it is of another version."""
    if isinstance(book, SqliteBook):
        with closing(sqlite3.connect(book.path)) as con:
            con.execute(f"PRAGMA user_version = {version}")
    else:
        started().run(f"UPDATE ledger_version SET version = {version}", book.name)
