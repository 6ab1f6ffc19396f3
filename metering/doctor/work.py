"""The work: what waits, what was missed, what is overdue."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from metering.close.order import closed_months
from metering.doctor.finding import HOUR, NIGHT, SHOWN, WEEK, Finding, fail, ok, second, warn
from metering.errors import DONE, NEEDS_PERSON
from metering.events.sources import strangers, waiting
from metering.home import Home
from metering.lake import connect
from metering.ledger.book import rows
from metering.ledger.runs import cut_off
from metering.ledger.tables import metadata
from metering.reports.ask import ask
from metering.telling.notices import FOLDER
from metering.usage import meter
from metering.values import Month, counted, printable

CLOSE_WITHIN = 72 * HOUR


def inbox(home: Home) -> Iterator[Finding]:
    """What waits is taken within a night; nothing lies there that no run takes."""
    if not home.inbox.is_dir():
        yield fail("there is no inbox/", "Run `metering init` on this home: it overwrites nothing.")
        return
    files = waiting(home.inbox)
    old = [path for path in files if home.now - _written(path.stat().st_mtime_ns) > NIGHT]
    for name in strangers(home.inbox)[:SHOWN]:
        yield warn(f"{name}: no run takes it, it is no file with the name of an event file", "Rename or remove it.")
    for path in sorted(home.inbox.iterdir()):
        unfinished = path.name.lower().endswith((".part", ".tmp")) and path.is_file()
        if unfinished and home.now - _written(path.stat().st_mtime_ns) > NIGHT:
            yield warn(f"{printable(path.name)}: unfinished for more than a day", "Look whether its producer died.")
    if old:
        yield warn(f"{counted(len(files), 'file')} waiting, {len(old)} for more than a day", "Run `metering nightly`.")
    else:
        yield ok(f"{counted(len(files), 'file')} waiting")


def _written(nanoseconds: int) -> int:
    return nanoseconds // 1000


def quarantine(home: Home) -> Iterator[Finding]:
    """No bad line waits for somebody to look at it."""
    count = ask(home, "quarantine").num_rows
    if count:
        told = f"{counted(count, 'line')} unresolved"
        yield warn(told, "`metering quarantine` lists them; `quarantine resolve` puts some aside.")
    else:
        yield ok("nothing unresolved")


def nights(home: Home) -> Iterator[Finding]:
    """The last night ran to its end, and that was not long ago."""
    runs = metadata().tables["runs"]
    with home.book.read() as con:
        query = sa.select(runs).where(runs.c.command == "nightly").order_by(runs.c.run.desc()).limit(1)
        last = con.execute(query).mappings().first()
    if last is None:
        if home.lake.manifest().batches:
            yield warn("no night has ever run here", "Start jobs/nightly.py every night: see jobs/.")
        else:
            yield ok("nothing has run here yet")
        return
    told = f"the last one began {second(last['started_at'])}"
    age = home.now - last["started_at"]
    if age > NIGHT:
        yield warn(f"{told}: {age // (24 * HOUR) or 1} missed", "Run `metering nightly`; look at the timer.")
    elif last["exit_code"] not in (None, DONE, NEEDS_PERSON):
        yield fail(f"{told} and ended with exit {last['exit_code']}: {last['summary']}", "Run `metering nightly`.")
    else:
        yield ok(told)


def runs(home: Home) -> Iterator[Finding]:
    """No run was cut off since the last one looked."""
    with home.book.read() as con:
        lost = cut_off(con, home.book)
    for run in lost[:SHOWN]:
        told = f"run {run.run} ({run.command}), begun {second(run.started_at)}, was cut off"
        yield warn(told, "Run it again: it goes on where it was.")
    if not lost:
        yield ok("no run was cut off since the last one looked")


def proofs(home: Home) -> Iterator[Finding]:
    """All invariants were proved within a week, and held."""
    yield from _weekly(home, "verify", "every invariant was proved", "Run `metering verify`: it names what breaks.")


def backups(home: Home) -> Iterator[Finding]:
    """There is a backup that is no older than a week."""
    yield from _weekly(home, "backup", "a backup was made", "Run `metering backup DEST`; see jobs/upkeep.py.")


def _weekly(home: Home, command: str, done: str, remedy: str) -> Iterator[Finding]:
    table = metadata().tables["runs"].c
    query = sa.select(table.started_at, table.exit_code, table.summary).where(
        (table.command == command) | table.command.startswith(f"{command} ", autoescape=True)
    )
    with home.book.read() as con:
        last = con.execute(query.order_by(table.run.desc()).limit(1)).first()
        good = con.scalar(query.with_only_columns(sa.func.max(table.started_at)).where(table.exit_code == DONE))
    batches = home.lake.manifest().batches
    since = good or (batches[0].ingested_at if batches else home.now)
    if last is not None and last.exit_code != DONE:
        told = f"the last `{command}`, {second(last.started_at)}, ended with exit {last.exit_code}"
        yield fail(f"{told}: {last.summary}", remedy)
    elif home.now - since > WEEK:
        told = f"was {second(good)}" if good else "is not known here"
        yield warn(f"the last time that {done} {told}", remedy)
    else:
        yield ok(f"{done} {second(good)}" if good else "nothing has lain here for a week")


def outbox(home: Home) -> Iterator[Finding]:
    """The platform takes the notices that it is told."""
    folder = home.path / FOLDER
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    old = [path for path in files if home.now - _written(path.stat().st_mtime_ns) > WEEK]
    if old:
        yield warn(f"{counted(len(old), 'notice')} in {FOLDER}/ for more than a week", "Look at who should take them.")
    else:
        yield ok(f"{counted(len(files), 'notice')} waiting")


def closes(home: Home) -> Iterator[Finding]:
    """Every month that has ended is closed within three days."""
    zone = home.config.billing.zone
    with home.book.read() as con:
        closed = closed_months(con)
    first = closed[-1].plus(1) if closed else home.config.billing.start_month or _first_used(home)
    current = Month.of(home.now, zone)
    waiting_months = [] if first is None or first >= current else meter.months_between(first, current.plus(-1))
    late = [month for month in waiting_months if home.now - month.bounds(zone)[1] > CLOSE_WITHIN]
    if late:
        ended = f"{late[0]} to {late[-1]} ended" if len(late) > 1 else f"{late[0]} ended"
        are = "are" if len(late) > 1 else "is"
        yield warn(f"{ended} more than three days ago and {are} not closed", "Run `metering close`.")
    else:
        told = f"closed up to {closed[-1]}" if closed else "no month is closed"
        yield ok(told + "".join(f"; {month} can be closed" for month in waiting_months))


def _first_used(home: Home) -> Month | None:
    con = connect(home.config.engine.memory_limit)
    home.lake.attach_usage(con)
    meter.open_relations(con, home.now, home.config.billing.zone)
    return meter.first_month(con, home.config.billing.zone)


def payments(home: Home) -> Iterator[Finding]:
    """No attempt stays without a known outcome for more than a day."""
    with home.book.read() as con:
        unknown = [row for row in rows(con, "payments", status="unknown") if home.now - row["created_at"] > NIGHT]
    for row in unknown[:SHOWN]:
        since = second(row["created_at"])
        yield warn(f"{row['payment']}: its outcome is unknown since {since}", "Run `metering collect`.")
    if not unknown:
        yield ok("every older attempt has a known outcome")
