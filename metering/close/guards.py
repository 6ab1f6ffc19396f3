"""What stops a close before it writes, until a person has looked."""

from __future__ import annotations

import sqlalchemy as sa

from metering.close.drafting import Drafts
from metering.close.inputs import Inputs
from metering.errors import NeedsPerson
from metering.home import Home
from metering.lake import connect
from metering.ledger.tables import metadata
from metering.sql import sql
from metering.values import format_instant, format_money, parse_money


def check_sources(home: Home, inputs: Inputs) -> None:
    """Stop if a required source has sent nothing dated after the month's end."""
    required = home.config.close.require_sources
    if not required:
        return
    con = connect(home.config.engine.memory_limit)
    home.lake.attach(con, inputs.events_through)
    latest = dict(con.execute(sql("events", "latest_by_source")).fetchall())
    silent = [source for source in required if latest.get(source, -1) < inputs.period_end]
    if silent:
        told = ", ".join(
            f"{source} (last event {format_instant(latest[source]) if source in latest else 'never'})"
            for source in silent
        )
        raise NeedsPerson(
            f"{inputs.month} cannot be closed: no event dated after its end has come from {told}.",
            unchanged=f"Nothing of {inputs.month} was written.",
            remedy="Wait for the source's events, or take it out of [close] require_sources.",
        )


def check_approval(drafts: Drafts, approve: str) -> None:
    """Stop if what a person approved are not these very inputs and lines."""
    if approve != drafts.hash:
        raise NeedsPerson(
            f"The hash is now {drafts.hash}, not {approve}: inputs or lines have changed since.",
            unchanged=f"Nothing of {drafts.inputs.month} was written.",
            remedy="Look at `metering close --dry-run` again and approve its hash.",
        )


def beyond_limits(home: Home, con: sa.Connection, drafts: Drafts) -> NeedsPerson | None:
    """Why a close may not go on before somebody approves it; None if it may."""
    problems = [*_too_large(home, drafts), *_too_different(home, con, drafts)]
    if not problems:
        return None
    return NeedsPerson(
        f"{drafts.inputs.month} is not closed: {'; '.join(problems)}.",
        unchanged=f"Nothing of {drafts.inputs.month} was written.",
        remedy=f"If this is right, run `metering close {drafts.inputs.month} --approve {drafts.hash}`.",
    )


def _too_large(home: Home, drafts: Drafts) -> list[str]:
    found: list[str] = []
    limits = home.config.close.max_invoice
    for draft in drafts.invoices if limits else ():
        limit = limits.get(draft.currency)
        if limit is not None and draft.total_minor > parse_money(limit, draft.currency):
            total = format_money(draft.total_minor, draft.currency)
            found.append(f"{draft.account_id} would be invoiced {total} {draft.currency}, more than {limit}")
    return found


def _too_different(home: Home, con: sa.Connection, drafts: Drafts) -> list[str]:
    """Currencies whose total differs too much from the month before; a month of zero is not compared."""
    percent = home.config.close.max_change_percent
    if percent is None:
        return []
    invoices = metadata().tables["invoices"].c
    query = (
        sa.select(invoices.currency, sa.func.sum(invoices.total_minor))
        .where(invoices.month == str(drafts.inputs.month.plus(-1)))
        .group_by(invoices.currency)
        .order_by(invoices.currency)
    )
    before = [(currency, int(total), drafts.totals.get(currency, 0)) for currency, total in con.execute(query)]
    return [
        f"the total in {currency} changes from {format_money(total, currency)} to {format_money(now, currency)},"
        f" more than {percent} %"
        for currency, total, now in before
        if total and abs(now - total) * 100 > percent * abs(total)
    ]
