"""`metering restore`: puts files back, and brings an older ledger to where it was before it was lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from metering.clock import Clock
from metering.errors import DONE, MeteringError, NeedsPerson, UsageError, worst
from metering.events.ingest import ingest
from metering.events.sources import expand
from metering.failpoints import failpoint
from metering.home import Home
from metering.lake.store import Batch
from metering.ledger import archive
from metering.ledger.book import Book
from metering.ledger.runs import last_known_batch
from metering.ledger.tables import metadata
from metering.payments.adopt import MOVED, adopt, held_intents, lost_intents
from metering.payments.gateway import NoAnswer, open_gateway
from metering.recovery.put_back import Show, put_back
from metering.values import counted

Say = Callable[[str], None]
_TOLD = ("closes", "invoices", "payments", "corrections", "funds", "account_versions", "transactions", "runs")


def restore(path: Path, backup: Path | None, clock: Clock, say: Say, show: Show = lambda *_: None) -> int:
    """Restore a home; safe to run again, whatever died. Its exit code: 3 if a payment needs a person."""
    if backup is not None:
        put_back(path, backup, say, show)
    home = Home(path, clock)
    show(0, 0, "ledger and gateway")
    if not home.book.exists and archive.newest(home.lake.files) is None:
        if backup is not None:
            say("The backup is of a home without a ledger.")
            return DONE
        raise UsageError(
            f"{home.path} has no ledger, and the lake has no copy of one.",
            unchanged="Nothing was changed.",
            remedy="Name a backup: `metering restore BACKUP`.",
        )
    with home.lock():
        _check_sound(home.book)
        _take_over(home, say)
        again = _bring_back(home, say) if backup is not None else ""
        home.check_lake()
    return _ask_gateway(home, say, again)


def _check_sound(ledger: Book) -> None:
    """Refuse to build on a damaged ledger."""
    found = ledger.damage(thorough=True)
    if found:
        raise MeteringError(
            f"The ledger {ledger.name} is damaged: {found}.",
            unchanged="The ledger is as it was.",
            remedy=f"{ledger.aside}, with what lies beside it, then run `metering restore` again.",
        )


def _take_over(home: Home, say: Say) -> None:
    try:
        home.check_book()
    except archive.Behind:
        with home.book.write() as con:
            added = archive.take_over(con, home.book, home.lake.files)
            failpoint("restore.before_take_over")
        home.book.close()
        told = ", ".join(f"{name.replace('_', ' ')} {added[name]}" for name in _TOLD if added[name])
        say(f"Taken over from the lake: {told or 'nothing'}.")
        home.check_book()
    else:
        say("The ledger has all that the lake knows of it.")
    failpoint("restore.after_take_over")


def _bring_back(home: Home, say: Say) -> str:
    """Where the lake is older than the ledger, take in again what came since, under the numbers that the ledger knows.

    What was told of it; empty where nothing is lost. Several batches become the first of them, and the others empty:
    what they would have said apart is lost.
    """
    runs = metadata().tables["runs"]
    with home.book.read() as con:
        known = last_known_batch(con)
        times = dict(con.execute(sa.select(runs.c.batch, runs.c.started_at).where(runs.c.batch.is_not(None))).all())
    first = home.lake.manifest().last_batch + 1
    if first > known:
        return ""
    done = home.inbox / "done"
    taken = ingest(
        home.lake,
        expand([str(done)]) if done.is_dir() else [],
        times.get(first, home.now),
        memory_limit=home.config.engine.memory_limit,
        lost=[Batch(batch=n, ingested_at=times.get(n, home.now)) for n in range(first + 1, known + 1)],
    )
    if taken.batch is None:
        raise NeedsPerson(
            f"The lake ends with batch {first - 1}, the ledger knows of batch {known}, and {done} has nothing newer.",
            unchanged="What was put back stays; nothing was overwritten.",
            remedy=f"Put the event files that came since into {done}, then run the same command again.",
        )
    lost = f"batch {first} was lost" if first == known else f"batches {first} to {known} were lost"
    told = f"{lost}; {counted(taken.accepted, 'event')} of {done} taken in place of that, as batch {first}"
    say(f"Taken in again: {told}.")
    return told


def _ask_gateway(home: Home, say: Say, again: str) -> int:
    with home.run("restore") as run:
        if again:
            run.say(again)
        gateway = open_gateway(home)
        try:
            lost = lost_intents(home, gateway)
        except NoAnswer as silence:
            raise MeteringError(
                f"The gateway {gateway.name} did not answer: {silence}.",
                unchanged="The ledger holds all that the lake knows; payments made since were not looked for.",
                remedy="Run `metering restore` again once the gateway answers.",
            ) from None
        finally:
            gateway.close()
        outcome = adopt(home, run, lost)
        for sentence in outcome.sentences():
            say(f"Adopted: {sentence}")
        for event in outcome.notable:
            say(f"Look at {event.invoice}: {event.kind}{f' ({event.reason})' if event.reason else ''}.")
        held = [intent for intent in lost if intent in held_intents(home) and intent.status in MOVED]
        for intent in held:
            say(
                f"Held: {intent.intent or intent.ref} of {intent.customer} is {intent.status};"
                f" the close that issues {intent.invoice} again takes it over."
            )
        if not lost:
            say(f"The gateway {gateway.name} has no payment intent that the ledger does not know.")
        run.say(f"{counted(len(lost), 'intent')} adopted")
        run.exit_code = worst(outcome.exit_code, DONE)
    return run.exit_code
