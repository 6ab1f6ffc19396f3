"""The audit trail: who ran what, when, by which clock, with which version and configuration, and how it ended.

A run is one row of `runs` from its beginning on, and holds a claim of its own as long as it lives. A run without an
end that nobody holds was cut off; the next run says so once, in `killed_runs`. What a run changed names it.
"""

from __future__ import annotations

import os
import pwd
import socket
from typing import NamedTuple

import sqlalchemy as sa

from metering import __version__
from metering.ledger.book import Book, insert
from metering.ledger.tables import metadata

OF_RUNS = frozenset({"runs", "run_origins", "killed_runs", "seals"})
"""Tables in which every run leaves rows; alone they are no news."""
REAL, SET = "real", "set"


class Origin(NamedTuple):
    """Who runs the engine, and where."""

    started_by: str
    machine: str


class CutOff(NamedTuple):
    """A run without an end that is no longer there."""

    run: int
    command: str
    started_at: int


def origin() -> Origin:
    """The user and the machine of this process; behind `sudo`, who asked for it."""
    number = os.geteuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = str(number)
    asked = os.environ.get("SUDO_USER", "")
    return Origin(f"{name} for {asked}"[:255] if asked and asked != name else name, socket.gethostname())


def begin(con: sa.Connection, command: str, now: int, config_hash: str, *, clock_is_real: bool, **end: object) -> int:
    """Record a run, with its end if it has ended already; its number. `con` is in a write transaction."""
    runs = metadata().tables["runs"]
    number = (con.scalar(sa.select(sa.func.max(runs.c.run))) or 0) + 1
    row = {"run": number, "command": command, "started_at": now, "version": __version__, "config_hash": config_hash}
    insert(con, "runs", [{**row, **end}])
    who = origin()._asdict()
    insert(con, "run_origins", [{"run": number, **who, "clock": REAL if clock_is_real else SET}])
    return number


def claim_of(run: int) -> str:
    """The name that a run holds as long as it lives."""
    return f"run {run}"


def cut_off(con: sa.Connection, book: Book) -> list[CutOff]:
    """Runs that have no end and are no longer there, in order, without those that a later run has found."""
    runs, killed = metadata().tables["runs"].c, metadata().tables["killed_runs"].c
    query = (
        sa.select(runs.run, runs.command, runs.started_at)
        .where(runs.ended_at.is_(None), runs.run.not_in(sa.select(killed.run)))
        .order_by(runs.run)
    )
    return [row for row in map(CutOff._make, con.execute(query)) if not _lives(book, row.run)]


def _lives(book: Book, run: int) -> bool:
    """Whether a run is still there; also where that cannot be asked, because the home may only be read."""
    try:
        with book.claim(claim_of(run)) as mine:
            return not mine
    except OSError:
        return True


def record_cut_off(con: sa.Connection, book: Book, run: int, now: int) -> list[CutOff]:
    """Record the runs before a run that nobody has found cut off yet; `con` is in a write transaction."""
    found = [row for row in cut_off(con, book) if row.run < run]
    insert(con, "killed_runs", [{"run": row.run, "found_at": now, "found_by": run} for row in found])
    return found


def last_known_batch(con: sa.Connection) -> int:
    """The last batch of the lake that a run or a close has recorded; 0 before the first."""
    runs, closes = metadata().tables["runs"], metadata().tables["closes"]
    brought = con.scalar(sa.select(sa.func.max(runs.c.batch))) or 0
    counted = con.scalar(sa.select(sa.func.max(closes.c.events_through))) or 0
    return max(brought, counted)
