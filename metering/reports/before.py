"""What of the published file of the run before still holds, so that a night costs what is new and what is alive.

Usage before an instant follows from the events that are dated before it. So of the months before the earliest event
that is new, and before the last publication, no row can have changed; only the end of a snapshot that lived on may be
known by now. What is made of the closed months' lines changes with a close, after which that is written anew.

It is used only where the state of the lifespans answers, and only if the file is to the byte what was written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import duckdb
import msgspec

from metering import __version__
from metering.durable import put
from metering.home import Home
from metering.lake import attached, count, every, single
from metering.lake.files import sha256_of
from metering.reports.ask import Reader
from metering.shipped import shipped
from metering.sql import sql
from metering.state.files import Store
from metering.values import Month

NOTE = "published.json"
AS_BEFORE = ("allocations", "billed-usage", "billed-usage-by-project")
"""Reports that only a close or a void changes."""
WITH_ENDS = ("usage_by_snapshot", "billed_usage_by_snapshot")
"""Tables that say when a snapshot ended, which may be later than the month that a row is about."""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Of what a file was made; it lies with the state, and is only a cache like it."""

    written_by: str
    """The engine, and what it says of reports and usage."""
    billing: str
    """Time zone and gigabyte."""
    batch: int
    mark: str
    """Hash of that batch's entry in the manifest."""
    now: int
    billed: list[str]
    sha256: str = ""


@dataclass(frozen=True)
class Before:
    """The file before, attached as `before`, and the first month in which anything can have changed since."""

    first: Month
    since: int
    """The month's first instant."""
    now: int
    is_billed_alike: bool
    """Whether the issued lines that count are the same; what is made of them is else made anew."""
    is_closed_before: bool
    """Whether every closed month lies before it."""

    @property
    def alive_after(self) -> int:
        """Whose end may be news: what ended at the month's first instant, or later."""
        return self.since - 1

    def rows(self, table: str) -> str:
        """The rows that still hold."""
        if table in WITH_ENDS:
            return sql("reports", "carried_ends").format(table=table, since=self.since, now=self.now, first=self.first)
        return every(f"before.{table}", cut=f"month < '{self.first}'")


def note_of(reader: Reader) -> Note | None:
    """What a file read through this reader is made of; None where the next run could not carry anything over."""
    if not reader.is_kept:
        return None
    home = reader.home
    last = home.lake.manifest().last_batch
    return Note(
        written_by=f"{__version__} {duckdb.__version__} {_what_is_said()}",
        billing=f"{home.config.billing.timezone} {home.config.billing.gigabyte_bytes}",
        batch=last,
        mark=home.lake.manifest().mark(last),
        now=home.now,
        billed=[str(value) for value in reader.con.execute(sql("reports", "billed_state")).fetchall()[0]],
    )


@cache
def _what_is_said() -> str:
    digest = hashlib.sha256(shipped("schemas/reports.toml").read_bytes())
    for room in ("reports", "usage"):
        for file in sorted(files(f"metering.{room}").iterdir(), key=lambda file: file.name):
            if file.name.endswith(".sql"):
                digest.update(file.read_bytes())
    return digest.hexdigest()


def leave_note(home: Home, note: Note | None, file: Path) -> None:
    """Leave for the next run what it needs to know of a file that is about to be put in place."""
    if note is None:
        return
    told = msgspec.structs.replace(note, sha256=sha256_of(file))
    put(Store(home.lake).root / NOTE, msgspec.json.encode(told))


@contextmanager
def file_before(reader: Reader, note: Note | None, file: Path) -> Iterator[Before | None]:
    """The file before, if anything of it can be carried over."""
    before = None if note is None else _before(reader, note, file)
    if before is None:
        yield None
        return
    with attached(reader.con, file, "before", "(READ_ONLY)"):
        lost = single(reader.con, sql("reports", "not_carried").format(first=before.first, since=before.since))
        yield replace(before, is_billed_alike=before.is_billed_alike and not lost)


def _before(reader: Reader, note: Note, file: Path) -> Before | None:
    try:
        last = msgspec.json.decode((Store(reader.home.lake).root / NOTE).read_bytes(), type=Note)
        if (last.written_by, last.billing) != (note.written_by, note.billing):
            return None
        if last.now > note.now or last.batch > note.batch or last.mark != reader.home.lake.manifest().mark(last.batch):
            return None
        if sha256_of(file) != last.sha256:
            return None
    except (OSError, msgspec.MsgspecError):
        return None
    told = _told_since(reader, last.batch, note.batch)
    zone = reader.home.config.billing.zone
    first = Month.of(last.now if told is None else min(told, last.now), zone)
    closed = single(reader.con, sql("reports", "last_closed"))
    return Before(first, first.bounds(zone)[0], note.now, last.billed == note.billed, closed < str(first))


def _told_since(reader: Reader, after: int, through: int) -> int | None:
    """The earliest instant that the events of some batches tell of."""
    con, lake = reader.con, reader.home.lake
    lake.attach_events(con, "new_events", after, through)
    retracting = count(con, every("new_events", cut="type = 'event.retracted'"))
    lake.attach_events(con, "retractable_events", 0, through if retracting else 0)
    since: int | None = single(con, sql("reports", "told_since"))
    return since
