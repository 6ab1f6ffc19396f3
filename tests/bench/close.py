"""A close up to the cards, against plain SQL inserts of the very rows that it wrote.

PYTHONPATH=tests:. python tests/bench/close.py --invoices 100000 [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sqlite3
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from homes import PRICES, Home, event_lines

from metering.clock import Clock
from metering.close.run import Options, run_close
from metering.home import Home as Door
from metering.payments.collect import Outcome
from metering.values import parse_instant

ACCOUNTS = "account_id,name,email,country,currency,tax_rate,payment_customer,payment_method\n"


def given(path: Path, count: int) -> Home:
    """A home with as many accounts, each with one snapshot of a day."""
    home = Home(path)
    home.file("prices.csv", f"{PRICES}\nsnapshot.vm,,USD,0.001,2026-01-01,\n")
    rows = "".join(f"acc-{n:06},Name {n},,DE,USD,19,cus_{n},pm_card_visa\n" for n in range(count))
    home.run("accounts", "import", str(home.file("accounts.csv", ACCOUNTS + rows)))
    lines = "".join(
        f"2026-05-02 ready s{n} acc=acc-{n:06} gb={100 + n % 900}\n2026-05-03 deleted s{n}\n" for n in range(count)
    )
    home.file("inbox/events.jsonl", event_lines(lines))
    home.run("ingest")
    return home


def plain_inserts(ledger: Path, copy: Path) -> tuple[int, float]:
    """Write every row of the ledger into an empty file: how many, and how long it took."""
    source = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)
    names = [row[0] for row in source.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    tables = {name: source.execute(f'SELECT * FROM "{name}"').fetchall() for name in names}
    target = sqlite3.connect(copy, isolation_level=None)
    began = time.perf_counter()
    target.execute("BEGIN")
    for name, rows in tables.items():
        width = len(source.execute(f'SELECT * FROM "{name}" LIMIT 0').description)
        target.execute(f'CREATE TABLE "{name}" ({", ".join(f"c{n}" for n in range(width))})')
        target.executemany(f'INSERT INTO "{name}" VALUES ({", ".join("?" * width)})', rows)
    target.execute("COMMIT")
    return sum(map(len, tables.values())), time.perf_counter() - began


def main() -> None:
    """Close, and print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--invoices", type=int, default=100_000)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "home"
        given(path, args.invoices)
        door = Door(path, Clock(parse_instant("2026-06-01T08:00:00Z")))
        profile = cProfile.Profile()
        with patch("metering.close.run.charge_invoices", lambda *_, **__: Outcome()), door.run("close") as run:
            began, cpu = time.perf_counter(), time.process_time()
            if args.profile:
                profile.enable()
            run_close(door, run, Options(), print)
            profile.disable()
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        rows, plain = plain_inserts(path / "ledger.db", Path(folder) / "plain.db")
        print(f"{args.invoices} invoices closed in {seconds:.1f} s ({cpu:.1f} s of a processor)")
        print(f"{rows} rows by plain inserts: {plain:.1f} s; the close takes {seconds / plain:.0f} times as long")
    if args.profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(60)


if __name__ == "__main__":
    main()
