"""Whose events contradicted each other since the last close."""

from __future__ import annotations

import duckdb
import sqlalchemy as sa

from metering.home import Home
from metering.ledger.tables import metadata
from metering.sql import sql
from metering.state import with_usage
from metering.usage import meter


def conflicts_since_last_close(home: Home) -> list[tuple[str | None, int]]:
    """The accounts that new conflicts concern, with the number of lines; None where no account is known."""
    closes, resolutions = metadata().tables["closes"], metadata().tables["quarantine_resolutions"]
    with home.book.read() as con:
        last = con.scalar(sa.select(sa.func.max(closes.c.events_through))) or 0
        aside = list(con.scalars(sa.select(resolutions.c.id)))
    if not any(part.quarantine for part in home.lake.manifest().parts() if part.last > last):
        return []

    def found(usage: duckdb.DuckDBPyConnection) -> list[tuple[str | None, int]]:
        before = [row[0] for row in usage.execute(sql("close", "conflicts_before"), {"batch": last}).fetchall()]
        table = meter.conflicting_accounts(usage, resolved=[*aside, *before])
        return list(zip(table["account_id"].to_pylist(), table["lines"].to_pylist(), strict=True))

    zone, limit = home.config.billing.zone, home.config.engine.memory_limit
    return with_usage(home.lake, home.now, zone, found, limit, keep_lifespans=False)
