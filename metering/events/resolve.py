"""Putting quarantined lines aside."""

from __future__ import annotations

from collections.abc import Sequence

from metering.errors import UsageError
from metering.lake import Lake, connect
from metering.ledger.book import Book, insert, rows
from metering.sql import sql


def resolve(lake: Lake, book: Book, identifiers: Sequence[str], reason: str, now: int, run: int) -> int:
    """Record that a person has put quarantined lines aside, all or none; gives how many were not aside before.

    UsageError, which names each, if there are none of some ids.
    """
    con = connect()
    lake.attach(con)
    known = {row[0] for row in con.execute(sql("events", "quarantined_ids"), {"ids": list(identifiers)}).fetchall()}
    if unknown := [identifier for identifier in identifiers if identifier not in known]:
        raise UsageError(
            f"There is no quarantined line {' or '.join(map(repr, unknown))}.",
            remedy="`metering quarantine` lists the ids.",
        )
    with book.write() as ledger:
        aside = {row["id"] for row in rows(ledger, "quarantine_resolutions", id=known)}
        new = sorted(known - aside)
        insert(
            ledger,
            "quarantine_resolutions",
            [{"id": identifier, "reason": reason, "resolved_at": now, "run": run} for identifier in new],
        )
    return len(new)
