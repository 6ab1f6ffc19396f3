"""Putting a quarantined line aside."""

from __future__ import annotations

from metering.errors import UsageError
from metering.lake import Lake, connect
from metering.ledger.book import Book, insert, rows
from metering.sql import sql


def resolve(lake: Lake, book: Book, identifier: str, reason: str, now: int, run: int) -> None:
    """Record that a person has put a quarantined line aside; UsageError if there is no such line."""
    con = connect()
    lake.attach(con)
    ((known,),) = con.execute(sql("events", "is_quarantined"), {"id": identifier}).fetchall()
    if not known:
        raise UsageError(
            f"There is no quarantined line {identifier!r}.",
            unchanged="Nothing was changed.",
            remedy="`metering quarantine` lists the ids.",
        )
    with book.write() as ledger:
        if rows(ledger, "quarantine_resolutions", id=identifier):
            return
        row = {"id": identifier, "reason": reason, "resolved_at": now, "run": run}
        insert(ledger, "quarantine_resolutions", [row])
