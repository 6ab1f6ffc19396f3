"""A close up to the cards, against plain SQL inserts of the very rows that it wrote into the very same tables.

PYTHONPATH=tests:. python tests/bench/close.py --invoices 100000 [--ledger postgresql] [--keep DIR] [--profile]

The inserts go into a copy of the ledger as it was before the close, with all its constraints, indexes and triggers:
one executemany per table, all in one transaction, committed as durably as the close does. The rows are ready as
tuples before the time begins to count. With `--ledger postgresql` the same month is closed on a server of its own too;
the rows of the SQLite ledger are then inserted there by the driver's executemany, and by COPY.
"""

from __future__ import annotations

import argparse
import cProfile
import multiprocessing
import os
import pstats
import resource
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from homes import PRICES, Home, event_lines
from postgres_server import Server

from metering.clock import Clock
from metering.close.run import Options, run_close
from metering.home import Home as Door
from metering.ledger.book import open_book
from metering.payments.collect import Outcome
from metering.values import parse_instant

ACCOUNTS = "account_id,name,email,country,currency,tax_rate,payment_customer,payment_method\n"
DURABLE = ("shared_buffers=256MB", "max_wal_size=8GB")
"""A server that syncs, as one that keeps a ledger does."""


def given(path: Path, count: int) -> None:
    """A home with as many accounts, each with one snapshot of a day."""
    home = Home(path)
    home.file("prices.csv", f"{PRICES}\nsnapshot.vm,,USD,0.001,2026-01-01,\n")
    rows = "".join(f"acc-{n:06},Name {n},,DE,USD,19,cus_{n},pm_card_visa\n" for n in range(count))
    home.run("accounts", "import", str(home.file("accounts.csv", ACCOUNTS + rows)))
    lines = "".join(
        f"2026-05-02 ready s{n} acc=acc-{n:06} gb={100 + n % 900}\n2026-05-03 deleted s{n}\n" for n in range(count)
    )
    home.file("inbox/events.jsonl", event_lines(lines))
    # The night before the 1st has taken the events in, as every night does.
    home.run("nightly", exit_code=None)


def close(path: Path, profiled: bool) -> tuple[float, float]:
    """Close up to the cards: seconds on the wall and of the processor."""
    door = Door(path, Clock(parse_instant("2026-06-01T08:00:00Z")))
    profile = cProfile.Profile(time.process_time)
    with patch("metering.close.run.charge_invoices", lambda *_, **__: Outcome()), door.run("close") as run:
        if profiled:
            profile.enable()
        spent = _measured(lambda: run_close(door, run, Options(), lambda sentence: None))
        profile.disable()
    if profiled:
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)
        pstats.Stats(profile).sort_stats("cumulative").print_stats(70)
    return spent


def plain_inserts(before: Path, after: Path) -> tuple[int, tuple[float, float]]:
    """Add the rows that a home's ledger has beyond another one to that other one: how many, and the seconds it took."""
    new = _rows_beyond(before, after)
    book = Door(before, Clock(0)).book

    def insert() -> None:
        with book.write() as con:
            cursor = con.connection.cursor()
            for name, rows in new:
                cursor.executemany(f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(rows[0]))})', rows)

    spent = _measured(insert)
    assert not _rows_beyond(before, after)
    return sum(len(rows) for _, rows in new), spent


def inserts_on_a_server(url: str, before: Path, after: Path, by_copy: bool) -> tuple[float, float]:
    """Add the same rows to a ledger on PostgreSQL, past the engine's own way: the seconds it took."""
    new = _rows_beyond(before, after)
    book = open_book(url, Path())

    def insert() -> None:
        with book.write() as con:
            cursor: Any = con.connection.cursor()
            for name, rows in new:
                if not by_copy:
                    cursor.executemany(f'INSERT INTO "{name}" VALUES ({", ".join(["%s"] * len(rows[0]))})', rows)
                    continue
                with cursor.copy(f'COPY "{name}" FROM STDIN') as copy:
                    for row in rows:
                        copy.write_row(row)

    spent = _measured(insert)
    book.close()
    return spent


def on_postgresql(kept: Path, after: Path, folder: Path, profiled: bool) -> None:
    """The same on a server, whose processor is counted too."""
    server = Server(DURABLE)

    def measured(name: str, what: str, work: Callable[..., object], *args: object) -> None:
        server.run(f"CREATE DATABASE {name} TEMPLATE given")
        before = _processor(server)
        (wall, cpu), memory = _alone(work, *args)
        spent = _processor(server) - before
        print(f"PostgreSQL, {what}: {wall:.1f} s, {cpu:.1f} + {spent:.1f} s of a processor, at most {memory} MiB")

    try:
        server.run("CREATE DATABASE given")
        book = open_book(server.url("given"), Path())
        book.load(kept / "ledger.db")
        book.close()
        path = Path(shutil.copytree(kept, folder / "on-server", ignore=shutil.ignore_patterns("ledger.db*")))
        with (path / "metering.toml").open("a") as config:
            config.write(f'\n[ledger]\nurl = "{server.url("closed")}"\n')
        measured("closed", "the close", close, path, profiled)
        for name, by_copy in (("inserted", False), ("copied", True)):
            measured(name, name, inserts_on_a_server, server.url(name), kept, after, by_copy)
    finally:
        server.remove()


def _processor(server: Server) -> float:
    """Seconds of the processor that a server and its children have taken."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    ticks = 0
    for pid, fields in [(str(server.pid), slice(11, 15)), *((child, slice(11, 13)) for child in children)]:
        ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[fields]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _counts(ledger: Path) -> dict[str, int]:
    """The last row of each table; entries come before the heads of their transactions, which check them."""
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as con:
        names = sorted(row[0] for row in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))
        return {name: con.execute(f'SELECT coalesce(max(rowid), 0) FROM "{name}"').fetchone()[0] for name in names}


def _rows_beyond(before: Path, after: Path) -> list[tuple[str, list[tuple[object, ...]]]]:
    """The rows that a home's ledger has beyond another one."""
    found = []
    with closing(sqlite3.connect(f"file:{after / 'ledger.db'}?mode=ro", uri=True)) as con:
        for name, count in _counts(before / "ledger.db").items():
            rows = con.execute(f'SELECT * FROM "{name}" WHERE rowid > {count}').fetchall()
            if rows:
                found.append((name, rows))
    return found


def _measured(work: Callable[[], object]) -> tuple[float, float]:
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - cpu


def _alone(work: Callable[..., object], *args: object) -> tuple[Any, int]:
    """Do something in a process of its own: what came of it, and the most memory it took, in MiB."""
    pipe, other = multiprocessing.Pipe()

    def act() -> None:
        found = work(*args)
        other.send((found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024))

    process = multiprocessing.get_context("fork").Process(target=act)
    process.start()
    other.close()
    found = pipe.recv()
    process.join()
    return found  # type: ignore[no-any-return]


def main() -> None:
    """Close, insert, and print what both took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--invoices", type=int, default=100_000)
    parser.add_argument("--ledger", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="Keep the home before the close there, and use it again."
    )
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "home"
        kept = args.keep / str(args.invoices) if args.keep else Path(folder) / "given"
        if not kept.exists():
            _alone(given, kept, args.invoices)
        shutil.copytree(kept, path)
        before = Path(shutil.copytree(kept, Path(folder) / "before"))
        (seconds, cpu), memory = _alone(close, path, args.profile)
        (rows, (plain, plain_cpu)), _ = _alone(plain_inserts, before, path)
        print(f"{args.invoices} invoices: {seconds:.1f} s, {cpu:.1f} s of a processor, at most {memory} MiB")
        print(f"{rows} rows by plain inserts: {plain:.1f} s, {plain_cpu:.1f} s of a processor")
        print(f"the close takes {seconds / plain:.1f} times as long, {cpu / plain_cpu:.1f} times as much processor")
        if args.ledger == "postgresql":
            on_postgresql(kept, path, Path(folder), args.profile)


if __name__ == "__main__":
    main()
