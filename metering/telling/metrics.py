"""`metrics/metering.prom`: the state of a home for Prometheus' text-file collector, written whole after each job."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import sqlalchemy as sa

from metering import __version__
from metering.durable import put
from metering.errors import DONE, NEEDS_PERSON
from metering.home import Home
from metering.lake import Manifest, compose, every, single
from metering.ledger.tables import metadata
from metering.reports.ask import ask
from metering.state import with_usage
from metering.usage import meter
from metering.values import format_money

FILE = Path("metrics", "metering.prom")
_MICROS = 10**6

Sample = tuple[dict[str, str], str]


def write_metrics(home: Home, say: Callable[[str], None]) -> None:
    """Write the file anew; what goes wrong is said, and no more."""
    path = home.path / FILE
    try:
        text = "".join(_lines(home))
        path.parent.mkdir(exist_ok=True)
        put(path, text.encode())
    # Whatever it is: a night that billed well has not failed because nobody can draw a chart of it.
    except Exception as error:
        say(f"metrics: {FILE} is as it was: {type(error).__name__}: {' '.join(str(error).split())[:200]}")


def _lines(home: Home) -> Iterator[str]:
    """The text format: help, type and samples of every metric."""
    for name, about, samples in _metrics(home):
        yield f"# HELP metering_{name} {about}\n# TYPE metering_{name} gauge\n"
        for labels, value in samples:
            told = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
            yield f"metering_{name}{{{told}}} {value}\n" if told else f"metering_{name} {value}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _metrics(home: Home) -> Iterator[tuple[str, str, list[Sample]]]:
    yield "build_info", "The engine.", [({"version": __version__}, "1")]
    yield from _of_runs(home)
    yield from _of_events(home)
    yield from _of_money(home)


def _of_runs(home: Home) -> Iterator[tuple[str, str, list[Sample]]]:
    """The last run and the last success of each command; exit 3 is a success that somebody should look at."""
    runs = metadata().tables["runs"]
    query = sa.select(runs).where(runs.c.ended_at.is_not(None)).order_by(runs.c.run)
    last: dict[str, sa.RowMapping] = {}
    well: dict[str, sa.RowMapping] = {}
    with home.book.read() as con:
        for row in con.execute(query).mappings():
            command = row["command"].split()[0]
            last[command] = row
            if row["exit_code"] in (DONE, NEEDS_PERSON):
                well[command] = row
    of = [({"command": command}, row) for command, row in sorted(last.items())]
    yield "last_run", "Number of the command's last run.", [(label, str(row["run"])) for label, row in of]
    yield "last_exit_code", "Exit code of that run.", [(label, str(row["exit_code"])) for label, row in of]
    took = [(label, _seconds(row["ended_at"] - row["started_at"])) for label, row in of]
    yield "last_run_seconds", "How long it took.", took
    ended = [({"command": command}, _seconds(row["ended_at"])) for command, row in sorted(well.items())]
    yield "last_success_timestamp_seconds", "When a run of the command last ended with exit 0 or 3.", ended


def _seconds(micros: int) -> str:
    return f"{micros // _MICROS}.{micros % _MICROS:06}"


def _of_events(home: Home) -> Iterator[tuple[str, str, list[Sample]]]:
    manifest = home.lake.manifest()
    events = sum(batch.events.rows for batch in manifest.batches if batch.events)
    yield "batch", "Number of the last batch.", [({}, str(manifest.last_batch))]
    yield "events", "Events taken in.", [({}, str(events))]
    yield "lake_parts", "Batches, or merged runs of them, with files of their own.", [({}, str(len(manifest.parts())))]
    yield "quarantine_unresolved", "Bad lines that nobody put aside.", [({}, str(_unresolved(home, manifest)))]
    limit = home.config.engine.memory_limit
    zone = home.config.billing.zone
    alive = with_usage(home.lake, home.now, zone, lambda con: _alive(con, home.now), limit, keep_lifespans=False)
    yield "snapshots_alive", "Snapshots that are metered now.", [({}, str(alive))]


def _unresolved(home: Home, manifest: Manifest) -> int:
    """Bad lines that nobody put aside; the report is not asked where there is none at all."""
    return ask(home, "quarantine").num_rows if any(batch.quarantine for batch in manifest.batches) else 0


def _alive(con: duckdb.DuckDBPyConnection, now: int) -> int:
    meter.set_periods(con, [meter.Period("now", now, now + 1)])
    return int(single(con, compose(con, every("alive_count", "snapshots"), "usage")))


def _of_money(home: Home) -> Iterator[tuple[str, str, list[Sample]]]:
    status, seals = metadata().tables["invoice_status"], metadata().tables["seals"]
    counts: Counter[str] = Counter()
    due: Counter[str] = Counter()
    held: Counter[tuple[str, str]] = Counter()
    with home.book.read() as con:
        for row in con.execute(_open_invoices()).all():
            counts[row.currency] += row.number
            due[row.currency] += int(row.due)
        paid = sorted((row.status, row.number) for row in con.execute(_payments()))
        for purse in con.execute(_purses()).all():
            held[purse.kind, purse.currency] += int(purse.held)
        last = sa.select(sa.func.max(seals.c.seal)).scalar_subquery()
        seal = con.execute(sa.select(seals).where(seals.c.seal == last).order_by(seals.c.recorded)).all()
        issued = con.scalar(sa.select(sa.func.count()).select_from(status)) or 0
    yield "invoices", "Invoices issued.", [({}, str(issued))]
    yield "invoices_open", "Invoices that are open.", [({"currency": c}, str(n)) for c, n in sorted(counts.items())]
    yield (
        "invoices_open_amount",
        "What is due on them.",
        [({"currency": currency}, format_money(amount, currency)) for currency, amount in sorted(due.items())],
    )
    yield "payments", "Attempts to charge a card.", [({"status": s}, str(n)) for s, n in paid]
    yield (
        "held_amount",
        "What accounts hold: balance, credit.",
        [
            ({"kind": kind, "currency": currency}, format_money(amount, currency))
            for (kind, currency), amount in sorted(held.items())
        ],
    )
    # The same words as in the run's summary, so that one can be held against the other.
    told = hashlib.sha256("".join(row.hash for row in seal).encode()).hexdigest()[:16]
    yield "seal", "Number of the last seal.", [({"seal": told}, str(seal[0].seal))] if seal else []
    yield "last_seal_timestamp_seconds", "When it was made.", [({}, _seconds(seal[0].made_at))] if seal else []


def _open_invoices() -> sa.Select[tuple[str, int, int]]:
    invoices, status = metadata().tables["invoices"], metadata().tables["invoice_status"]
    return (
        sa.select(
            invoices.c.currency, sa.func.count().label("number"), sa.func.sum(status.c.amount_due_minor).label("due")
        )
        .join(status, status.c.invoice == invoices.c.invoice)
        .where(status.c.status == "open")
        .group_by(invoices.c.currency)
    )


def _payments() -> sa.Select[tuple[str, int]]:
    payments = metadata().tables["payments"].c
    return sa.select(payments.status, sa.func.count().label("number")).group_by(payments.status)


def _purses() -> sa.Select[tuple[str, str, int]]:
    entries = metadata().tables["entries"].c
    held = sa.func.sum(entries.credit_minor - entries.debit_minor)
    return (
        sa.select(entries.ledger_account.label("kind"), entries.currency, held.label("held"))
        .where(entries.ledger_account.in_(("balance", "credit")))
        .group_by(entries.ledger_account, entries.currency)
    )
