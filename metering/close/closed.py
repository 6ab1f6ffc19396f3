"""The closed months."""

from __future__ import annotations

import sqlalchemy as sa

from metering.ledger.tables import metadata
from metering.values import Month


def closed_months(con: sa.Connection) -> list[Month]:
    """The closed months, in order."""
    closes = metadata().tables["closes"]
    return [Month.parse(month) for month in con.scalars(sa.select(closes.c.month).order_by(closes.c.month))]
