"""`metering status`: what is closed, what is open, and what needs a person."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import sqlalchemy as sa

from metering.close.order import closed_months
from metering.errors import NeedsPerson
from metering.events.sources import waiting
from metering.home import Home
from metering.ledger.book import rows
from metering.ledger.runs import cut_off
from metering.ledger.tables import metadata
from metering.payments.cases import exhausted
from metering.payments.states import Calendar
from metering.reports.ask import ask
from metering.values import Month, counted, format_instant, format_money


def sentences(home: Home) -> Iterator[str]:
    """The state of a home, one sentence a line."""
    manifest = home.lake.manifest()
    last = manifest.batches[-1] if manifest.batches else None
    yield f"Home          {home.path}"
    yield f"Clock         {format_instant(home.now)}{'' if home.clock.is_real else ' (set)'}"
    yield "Events        " + (
        f"{sum(b.events.rows for b in manifest.batches if b.events)} in {counted(last.batch, 'batch', 'batches')},"
        f" the last of {format_instant(last.ingested_at)}"
        if last
        else "none yet"
    )
    try:
        home.check_lake()
    except NeedsPerson as error:
        yield f"Lake          {error.message} {error.remedy}"
    yield f"Inbox         {counted(len(waiting(home.inbox)), 'file')} waiting"
    yield f"Quarantine    {counted(ask(home, 'quarantine').num_rows, 'line')} unresolved"
    try:
        home.check_book()
    except NeedsPerson as error:
        yield f"Ledger        {error.message} {error.remedy}"
    with home.book.read() as con:
        closed = closed_months(con)
        yield f"Closed        {f'{closed[0]} to {closed[-1]}' if closed else 'no month yet'}"
        yield from _owed(con)
        yield from _exhausted(home, con)
        runs = metadata().tables["runs"]
        run = con.execute(sa.select(runs).order_by(runs.c.run.desc()).limit(1)).mappings().first()
        if run:
            ended = "has not ended" if run["exit_code"] is None else f"exit {run['exit_code']}"
            yield f"Last run      {run['run']}: {run['command']}, {ended}"
        for lost in cut_off(con, home.book):
            yield f"Cut off       run {lost.run}: {lost.command}, begun {format_instant(lost.started_at)}"
    current = Month.of(home.now, home.config.billing.zone)
    if closed and closed[-1].plus(1) < current:
        yield f"Next          {closed[-1].plus(1)} has ended: run `metering close`"


def _owed(con: sa.Connection) -> Iterator[str]:
    status, invoices = metadata().tables["invoice_status"], metadata().tables["invoices"]
    query = (
        sa.select(status.c.status, invoices.c.currency, sa.func.count(), sa.func.sum(status.c.amount_due_minor))
        .join(invoices, invoices.c.invoice == status.c.invoice)
        .where(status.c.status.in_(("open", "carried")), status.c.amount_due_minor > 0)
        .group_by(status.c.status, invoices.c.currency)
        .order_by(status.c.status, invoices.c.currency)
    )
    found = con.execute(query).all()
    for state, currency, count, due in found:
        yield f"{state.capitalize():<13} {counted(count, 'invoice')}, {format_money(int(due), currency)} {currency}"
    if not found:
        yield "Owed          nothing"
    unknown = Counter(row["status"] for row in rows(con, "payments", status={"unknown", "action_required"}))
    for state, count in sorted(unknown.items()):
        yield f"Payments      {count} {state}"


def _exhausted(home: Home, con: sa.Connection) -> Iterator[str]:
    """What is open and will not be tried any more."""
    calendar = Calendar(home.now, home.config.billing.zone, tuple(home.config.payments.retry_after_days))
    due: dict[str, list[int]] = defaultdict(list)
    for case in exhausted(con, calendar):
        due[case.currency].append(case.receivable_minor)
    for currency, amounts in sorted(due.items()):
        told = f"{counted(len(amounts), 'invoice')}, {format_money(sum(amounts), currency)} {currency}"
        yield f"Collection    exhausted: {told}; import another card, or `metering write-off`"
