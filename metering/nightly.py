"""`metering nightly`: inbox → usage that cannot be billed and anomalies → collect → notices → small files merged.

A failed step does not stop those that do not depend on it; the worst exit code wins.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import sqlalchemy as sa

from metering.close.price_guard import check_prices
from metering.corrections.card_refunds import card_sentences
from metering.durable import put
from metering.errors import DONE, NEEDS_PERSON, MeteringError, worst
from metering.events.inbox import take_inbox
from metering.home import Home, Run
from metering.lake import count, every
from metering.lake.compaction import NIGHTLY_MOST, NIGHTLY_PARTS, compact
from metering.ledger.tables import metadata
from metering.payments.adopt import check_gateway
from metering.payments.collect import collect
from metering.reports.ask import Reader, with_reader
from metering.state import advance
from metering.telling.notices import tell_all
from metering.values import counted, format_instant

Say = Callable[[str], None]
DAY = 24 * 3600 * 10**6
NIGHT = DAY + 2 * 3600 * 10**6
"""A night that begins two hours late is no missed one."""


def run_nightly(home: Home, run: Run, say: Say) -> int:
    """Every step in order; the worst exit code. Without the lake that the ledger knows, only what needs none."""
    codes = []
    steps = STEPS
    try:
        home.check_lake()
    except MeteringError as error:
        say(f"lake: {error}")
        run.say(f"lake: {error.message}")
        codes.append(error.exit_code)
        steps = tuple((name, step) for name, step in STEPS if name not in ON_EVENTS)
    for name, step in steps:
        home.show(0, 0, name)
        try:
            codes.append(step(home, run, say))
        except MeteringError as error:
            say(f"{name}: {error}")
            run.say(f"{name}: {error.message}")
            codes.append(error.exit_code)
    return worst(*codes)


def _missed(home: Home, run: Run, say: Say) -> int:
    """Say since when there was no night; this one takes all that has waited."""
    runs = metadata().tables["runs"]
    query = sa.select(sa.func.max(runs.c.started_at)).where(runs.c.command == "nightly", runs.c.run < run.run)
    with home.book.read() as con:
        last = con.scalar(query)
    if last is not None and home.now - last > NIGHT:
        missed = (home.now - last) // DAY or 1
        sentence = f"the last night was {format_instant(last)}: catching up after {counted(missed, 'day')}"
        run.say(sentence)
        say(sentence)
    return DONE


def _inbox(home: Home, run: Run, say: Say) -> int:
    with home.lock():
        taken = take_inbox(home.lake, home.inbox, home.now, memory_limit=home.config.engine.memory_limit)
    run.batch = taken.batch
    sentence = f"inbox: {taken.told}"
    run.say(sentence)
    say(sentence)
    for left in taken.left():
        say(f"inbox: {left}")
    return NEEDS_PERSON if taken.needs_person else DONE


def _prices(home: Home, run: Run, say: Say) -> int:
    check_prices(home)
    return DONE


def _lifespans(home: Home, run: Run, say: Say) -> int:
    with home.lock():
        advance(home.lake, home.now, home.config.engine.memory_limit, say)
    return DONE


def _usage(home: Home, run: Run, say: Say) -> int:
    """Tell what cannot be billed, and how much is anomalous; only what no night has told before needs a person."""
    found, anomalies = with_reader(home, _look)
    told_path = home.lake.root / "state" / "unbillable.json"
    told = _told(told_path)
    for reason, account, sku, region in sorted(found):
        say(f"cannot be billed: {sku} of {account} in {region}: {reason}")
    told_path.parent.mkdir(parents=True, exist_ok=True)
    put(told_path, msgspec.json.encode(sorted(found)))
    if anomalies:
        say(f"anomalies: {anomalies}; see `metering report anomalies`")
    return NEEDS_PERSON if found - told else DONE


def _told(path: Path) -> set[tuple[str, str, str, str]]:
    """What an earlier night told; where that is lost or damaged, all is told again."""
    try:
        return set(msgspec.json.decode(path.read_bytes(), type=list[tuple[str, str, str, str]]))
    except (OSError, ValueError):
        return set()


def _look(reader: Reader) -> tuple[set[tuple[str, str, str, str]], int]:
    """What cannot be billed, and the number of anomalies: both by the same usage."""
    reader.prepare("anomalies")
    anomalies = count(reader.con, every("found_anomalies"))
    return {(reason, usage.account_id, usage.sku, usage.region) for reason, usage in reader.unbillable}, anomalies


def _collect(home: Home, run: Run, say: Say) -> int:
    check_gateway(home, run)
    outcome = collect(home, run)
    for sentence in card_sentences(home, run, outcome):
        run.say(sentence)
        say(f"cards: {sentence}")
    return outcome.exit_code


def _merge(home: Home, run: Run, say: Say) -> int:
    """Keep the lake quick: the small files of many nights become one, a bounded number a night."""
    limit = home.config.engine.memory_limit
    with home.lock():
        done = compact(home.lake, least=NIGHTLY_PARTS, most=NIGHTLY_MOST, memory_limit=limit)
    if done.before != done.after:
        sentence = f"lake: {counted(done.before, 'file')} became {done.after}"
        run.say(sentence)
        say(f"{sentence}; `metering gc` removes the old ones later")
    return DONE


STEPS: tuple[tuple[str, Callable[[Home, Run, Say], int]], ...] = (
    ("missed", _missed),
    ("inbox", _inbox),
    ("lifespans", _lifespans),
    ("prices", _prices),
    ("usage", _usage),
    ("collect", _collect),
    ("notices", tell_all),
    ("lake", _merge),
)
ON_EVENTS = ("inbox", "lifespans", "usage", "notices", "lake")
"""The steps that read or add events."""
