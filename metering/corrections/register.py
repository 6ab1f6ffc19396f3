"""The register of corrections: their numbers and rows."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from metering.ledger.book import insert
from metering.ledger.tables import metadata


def next_number(con: sa.Connection, prefix: str) -> str:
    """The next number after a prefix, without gaps: PREFIX-000001 and so on."""
    corrections = metadata().tables["corrections"]
    made = con.scalar(
        sa.select(sa.func.count()).where(corrections.c.correction.startswith(f"{prefix}-", autoescape=True))
    )
    return f"{prefix}-{(made or 0) + 1:06}"


def register(con: sa.Connection, number: str, kind: str, now: int, run: int, **facts: Any) -> None:
    """Store a correction."""
    row = {
        "correction": number,
        "kind": kind,
        "tax_minor": 0,
        "rebill": 0,
        "to_card": 0,
        "outcome": None,
        "about": None,
        "invoice": None,
        "payment": None,
        "made_at": now,
        "run": run,
        **facts,
    }
    insert(con, "corrections", [row])
