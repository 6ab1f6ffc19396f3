"""A home: the folder that holds configuration and data of one installation, and the doors to what is in it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import sqlalchemy as sa

from metering.clock import Clock
from metering.config import CONFIG_NAME, Config, load_config
from metering.errors import FAILED, LOCKED, Locked, MeteringError, NeedsPerson, UsageError
from metering.lake.elsewhere import Compute
from metering.lake.files import sha256_of
from metering.lake.store import Lake, open_lake
from metering.ledger import archive, runs
from metering.ledger.book import Book, change, open_book
from metering.ledger.seals import seal
from metering.ledger.tables import metadata
from metering.values import format_instant

OF_A_MACHINE = ("localtime", "posixrules", "Factory", "posix/", "right/")
"""How names begin that many systems keep beside the IANA zones: a month would not be the same everywhere."""
MOST_NAMED = 20
"""Runs that were cut off are named up to here; the others are counted."""


@dataclass
class Run:
    """One run of a command that may write: its row in `runs`."""

    run: int
    now: int
    exit_code: int = 0
    batch: int | None = None
    summary: list[str] = field(default_factory=list)
    looks_first: bool = False
    """Whether a payment intent is looked for at the gateway before it is made."""

    def say(self, sentence: str) -> None:
        """Add a sentence to the run's summary."""
        self.summary.append(sentence)


class Home:
    """The doors of one home; opening one does not create anything."""

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self.path = path.absolute()
        self.config: Config = load_config(self.path / CONFIG_NAME)
        self.clock = clock or Clock()
        self.now = self.clock.now()
        self.on_run: Callable[[Run], None] = lambda run: None
        """Told of a run when it begins."""
        self.show: Callable[[int, int, str], None] = lambda done, total, name: None
        """Told how far long work is: the steps done, the steps in all (0 if unknown), and what is at work."""

    @cached_property
    def lake(self) -> Lake:
        """The lake."""
        return open_lake(self.config.lake.url, self.path, lambda name: self.book.claim(name), self._compute())

    def _compute(self) -> Compute | None:
        """What computes usage, if not the connection that asks."""
        if self.config.engine.name == "duckdb":
            return None
        from metering.spark import cluster

        return cluster(self.config.engine)

    @cached_property
    def book(self) -> Book:
        """The ledger."""
        return open_book(self.config.ledger.url, self.path)

    @property
    def inbox(self) -> Path:
        """Where producers drop event files."""
        return self.path / "inbox"

    @property
    def prices_file(self) -> Path:
        """The current price list."""
        return self.path / "prices.csv"

    def check_clock(self) -> None:
        """Refuse a clock that stands before the last posting."""
        if not self.book.exists:
            return
        with self.book.read() as con:
            last = con.scalar(sa.select(sa.func.max(metadata().tables["transactions"].c.posted_at)))
        if last is not None and self.now < last:
            source = "The clock" if self.clock.is_real else "--now"
            raise UsageError(
                f"{source} says {format_instant(self.now)}, but the ledger's last posting is of "
                f"{format_instant(last)}.",
                unchanged="Nothing was read or written.",
                remedy="Set the clock right, or give a --now that is not before the last posting.",
            )

    def check_fixed(self) -> None:
        """Refuse a time zone or a gigabyte other than those of the first close; before that, a zone of this machine."""
        first, billing = None, self.config.billing
        if self.book.exists:
            closes = metadata().tables["closes"]
            with self.book.read() as con:
                first = con.execute(sa.select(closes.c.timezone, closes.c.gigabyte_bytes).limit(1)).first()
        if first is None and billing.timezone.startswith(OF_A_MACHINE):
            raise UsageError(
                f"{CONFIG_NAME}: [billing] timezone {billing.timezone!r} is no IANA zone: each machine has its own.",
                unchanged="Nothing was read or written.",
                remedy="Name the zone in which months begin and end, such as Europe/Berlin.",
            )
        if first is not None and tuple(first) != (billing.timezone, billing.gigabyte_bytes):
            raise UsageError(
                f"{CONFIG_NAME}: [billing] timezone and gigabyte cannot change after the first close, which was made"
                f" with timezone {first[0]!r} and {first[1]} bytes.",
                unchanged="Nothing was read or written.",
                remedy="Set both back.",
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """The run lock: one run at a time changes this home, or another one on this ledger. It is freed by death."""
        descriptor = os.open(self.path / ".metering.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._locked(str(self.path)) from None
            with self.book.claim("run") as mine:
                if not mine:
                    raise self._locked(f"the ledger {self.book.name}")
                yield
        finally:
            os.close(descriptor)

    def _locked(self, what: str) -> Locked:
        return Locked(
            f"Another run holds the lock of {what}.",
            unchanged="Nothing was changed.",
            remedy=f"Wait for it to end, then run this again (exit {LOCKED}).",
        )

    def check_book(self) -> None:
        """Refuse a ledger that is older than what the lake knows of it: it was lost, or put back from a backup."""
        archive.check(self.book, self.lake.files)
        with self.book.read() as con:
            known = set(con.scalars(sa.select(metadata().tables["closes"].c.month)))
        # Closes have no gaps: only files of a later month than all of them tell of a lost one.
        newest = f"closes/{max(known)}~" if known else ""
        there = {name.split("/")[1] for name in self.lake.files.names("closes/", newest)}
        lost = sorted(month for month in there - known if month[:1].isdecimal())
        if lost:
            raise archive.Behind(
                f"The lake has invoice files of {', '.join(lost)}; the ledger {self.book.name} has no such close.",
                unchanged="Nothing was changed, closed or charged.",
                remedy=f"Put the lake's folder `{archive.FOLDER}` back from a backup, then run `metering restore`.",
            )

    def check_lake(self) -> None:
        """Refuse a lake that lacks batches of which the ledger tells: it is another one, or older than the ledger."""
        if not self.book.exists:
            return
        with self.book.read() as con:
            known = runs.last_known_batch(con)
        last = self.lake.manifest().last_batch
        if last < known:
            raise NeedsPerson(
                f"The lake {self.lake.files.url} ends with batch {last}, but the ledger {self.book.name} knows of batch"
                f" {known}: it is another lake, a disk that is not mounted, or an older copy.",
                unchanged="No event was taken in, and nothing was closed; the inbox is as it was.",
                remedy="Mount the disk or set [lake] url right. If the lake was lost: `metering restore BACKUP`.",
            )

    def keep_copy(self, run: Run) -> None:
        """Write what the ledger has recorded since the last copy into the lake, unless that is another or older one."""
        try:
            self.check_lake()
        except NeedsPerson:
            return
        archive.append(self.book, self.lake.files, run.run, self.now)

    @contextmanager
    def run(self, command: str, *, needs_book: bool = True) -> Iterator[Run]:
        """Record a run from its start to its end, and seal the book if anything was posted since the last seal.

        A run that can do without the ledger (it takes events) goes on where the ledger is older than the lake
        knows it; then it is not recorded, and what needs the ledger refuses by itself.
        """
        self.check_clock()
        try:
            self.check_book()
        except archive.Behind:
            if needs_book:
                raise
            yield Run(0, self.now)
            return
        with ExitStack() as life:
            with self.book.write() as con:
                number = runs.begin(con, command, self.now, self._config_hash(), clock_is_real=self.clock.is_real)
                # Held before the run can be seen, so that nobody takes it for one that was cut off.
                life.enter_context(self.book.claim(runs.claim_of(number)))
                lost = runs.record_cut_off(con, self.book, number, self.now)
            run = Run(number, self.now, summary=list(_named(lost)))
            self.on_run(run)
            try:
                yield run
            except MeteringError as error:
                run.exit_code = error.exit_code
                run.say(error.message)
                self._end(run)
                raise
            except BaseException as error:
                run.exit_code = FAILED
                run.say(f"{type(error).__name__}: {error}")
                self._end(run)
                raise
            self._end(run)
        self.book.close()

    def note(self, command: str, exit_code: int, summary: str) -> str | None:
        """Record a run that only looked, once it has ended; why it is not recorded, or None.

        Whoever may read a home may look at it. Nothing is written where the ledger belongs to another user, whose
        next run could not write to files that this one had made.
        """
        try:
            if not self.book.exists:
                return "there is no ledger yet"
            if any(path.exists() and path.stat().st_uid != os.geteuid() for path in self.book.files):
                return f"{self.book.name} belongs to another user"
            self.check_clock()
            self.check_book()
            end = {"ended_at": self.clock.now(), "exit_code": exit_code, "summary": summary}
            with self.book.write() as con:
                runs.begin(con, command, self.now, self._config_hash(), clock_is_real=self.clock.is_real, **end)
            self.book.close()
        except (MeteringError, OSError, sa.exc.SQLAlchemyError) as error:
            return str(error).partition("\n")[0]
        return None

    def _config_hash(self) -> str:
        return sha256_of(self.path / CONFIG_NAME)

    def _end(self, run: Run) -> None:
        ended_at = self.clock.now()
        with self.book.write() as con:
            made = seal(con, run.run, ended_at)
            if made:
                run.say(f"seal {made[:16]}")
            change(
                con,
                "runs",
                {"run": run.run},
                ended_at=ended_at,
                exit_code=run.exit_code,
                batch=run.batch,
                summary="; ".join(run.summary),
            )
        self.keep_copy(run)


def _named(lost: list[runs.CutOff]) -> Iterator[str]:
    for row in lost[:MOST_NAMED]:
        yield f"run {row.run} ({row.command}, begun {format_instant(row.started_at)}) was cut off"
    if len(lost) > MOST_NAMED:
        yield f"{len(lost) - MOST_NAMED} more runs were cut off"
