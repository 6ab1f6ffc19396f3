"""The way of a ledger from an earlier schema version to this one, a step per version; nothing that is there changes."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from metering.failpoints import failpoint
from metering.ledger.book import VERSION, Book
from metering.ledger.tables import metadata


def migrate(book: Book, con: sa.Connection, version: int, now: int) -> None:
    """Bring a ledger of an earlier version to this one; `con` is in a write transaction."""
    book.create_missing(con)
    for step in range(version, VERSION):
        STEPS[step](con, now)
    book.set_version(con)
    failpoint("upgrade.before_commit")


OLDEST = 3
"""The first version that can be brought forward; an earlier one was never released."""


def _notices(con: sa.Connection, now: int) -> None:
    """What happened before there were notices counts as told: nobody wants years of them at once."""
    from metering.ledger.book import insert
    from metering.sql import sql

    run = con.scalar(sa.select(sa.func.max(metadata().tables["runs"].c.run))) or 0
    old = con.execute(sa.text(sql("telling", "untold"))).mappings().all()
    insert(
        con,
        "notices",
        [{"notice": r["notice"], "kind": r["kind"], "subject": r["subject"], "told_at": now, "run": run} for r in old],
    )


def _decisions(con: sa.Connection, _: int) -> None:
    """A close counted the lists that were recorded before its own; of corrections those of the runs before it."""
    from metering.ledger.book import insert
    from metering.sql import sql

    found = con.execute(sa.text(sql("ledger", "decided_before"))).mappings()
    insert(con, "close_decisions", [dict(row) for row in found])


def _sent_back(con: sa.Connection, _: int) -> None:
    """An invoice that a void sent its carry back to counted as brought forward, also once it was paid."""
    from metering.ledger.postings import refresh_status

    entries, transactions = metadata().tables["entries"], metadata().tables["transactions"]
    query = (
        sa.select(entries.c.invoice)
        .join(transactions, transactions.c.transaction == entries.c.transaction)
        .where(transactions.c.kind == "sent_back", entries.c.ledger_account == "carried")
        .distinct()
    )
    refresh_status(con, con.scalars(query).all())


def _origins(con: sa.Connection, now: int) -> None:
    """Nobody knows who began the runs so far, or waits to hear which of them were cut off; the upgrade is a run."""
    from metering.ledger.book import insert

    runs = metadata().tables["runs"]
    last = con.scalar(sa.select(sa.func.max(runs.c.run))) or 0
    lost = con.scalars(sa.select(runs.c.run).where(runs.c.ended_at.is_(None)).order_by(runs.c.run)).all()
    insert(con, "killed_runs", [{"run": run, "found_at": now, "found_by": last + 1} for run in lost])


STEPS: dict[int, Callable[[sa.Connection, int], None]] = {3: _notices, 4: _decisions, 5: _sent_back, 6: _origins}
"""Each step by the version that it starts from; new tables are there already."""
