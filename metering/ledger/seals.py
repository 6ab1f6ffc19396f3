"""Seals: a chain of hashes over everything that was ever posted.

A seal is the SHA-256 over the seal before it and every transaction and entry since, in canonical JSON, so that
no posting can be changed, added or taken away under a seal without breaking it and all that follow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec
import sqlalchemy as sa

from metering.ledger.book import insert
from metering.ledger.tables import metadata

GENESIS = "0" * 64


def seal(con: sa.Connection, run: int, made_at: int) -> str | None:
    """Seal what was posted since the last seal; the new seal's hash, or None if nothing was posted."""
    seals, transactions = metadata().tables["seals"], metadata().tables["transactions"]
    last = con.execute(sa.select(seals).order_by(seals.c.seal.desc()).limit(1)).mappings().first()
    through = con.scalar(sa.select(sa.func.max(transactions.c.transaction))) or 0
    since = last["through_transaction"] if last else 0
    if through == since:
        return None
    digest = hash_since(con, last["hash"] if last else GENESIS, since, through)
    row = {
        "seal": last["seal"] + 1 if last else 1,
        "run": run,
        "through_transaction": through,
        "hash": digest,
        "made_at": made_at,
    }
    insert(con, "seals", [row])
    return digest


def hash_since(con: sa.Connection, previous: str, since: int, through: int) -> str:
    """The hash of a seal over the transactions after `since` up to `through`."""
    digest = hashlib.sha256(previous.encode())
    for record in _records(con, since, through):
        digest.update(msgspec.json.encode(record))
        digest.update(b"\n")
    return digest.hexdigest()


def _records(con: sa.Connection, since: int, through: int) -> Iterator[list[Any]]:
    for name in ("transactions", "entries"):
        table = metadata().tables[name]
        query = (
            sa.select(table)
            .where(table.c.transaction > since, table.c.transaction <= through)
            .order_by(*table.primary_key.columns)
        )
        for row in con.execute(query):
            yield [name, *row]
