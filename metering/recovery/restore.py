"""`metering restore`: puts files back, and brings an older ledger to where it was before it was lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from metering.clock import Clock
from metering.errors import DONE, MeteringError, UsageError, worst
from metering.failpoints import failpoint
from metering.home import Home
from metering.ledger import archive
from metering.ledger.book import Book
from metering.payments.adopt import MOVED, adopt, held_intents, lost_intents
from metering.payments.gateway import NoAnswer, open_gateway
from metering.recovery.put_back import Show, put_back

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
    return _ask_gateway(home, say)


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


def _ask_gateway(home: Home, say: Say) -> int:
    with home.run("restore") as run:
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
        run.say(f"{len(lost)} intents adopted")
        run.exit_code = worst(outcome.exit_code, DONE)
    return run.exit_code
