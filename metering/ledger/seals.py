"""Seals: chains of hashes over everything that was ever recorded in the ledger.

Each table has its own chain: a seal is the SHA-256 over the seal before it and every row recorded since, in all
columns that never change, as canonical JSON. So no row can be changed, added or taken away under a seal without
breaking it and all that follow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import msgspec
import sqlalchemy as sa

from metering.ledger.book import insert
from metering.ledger.tables import counter, last_rows, metadata
from metering.schema import tables
from metering.sql import sql

GENESIS = "0" * 64
_MANY = 5_000
"""Rows that are held in memory at once."""


def sealed_tables() -> list[str]:
    """The tables that are sealed: all but the seals themselves and what is only a cache."""
    return [
        table.name
        for table in tables().values()
        if table.stored == "ledger" and table.name not in ("seals", "invoice_status")
    ]


def seal(con: sa.Connection, run: int, made_at: int) -> str | None:
    """Seal what was recorded since the last seal; a hash over the seal, or None if no money moved since."""
    seals = metadata().tables["seals"]
    number = (con.scalar(sa.select(sa.func.max(seals.c.seal))) or 0) + 1
    made = []
    sealed = last_seals(con)
    for name, through in con.execute(last_rows(*sealed_tables())).all():
        previous, since = sealed.get(name, (GENESIS, 0))
        if through > since:
            digest = hash_since(con, name, previous, since, through)
            made.append(
                {
                    "seal": number,
                    "run": run,
                    "sealed_table": name,
                    "through": through,
                    "hash": digest,
                    "made_at": made_at,
                }
            )
    if not any(row["sealed_table"] == "transactions" for row in made):
        return None
    insert(con, "seals", made)
    return hashlib.sha256("".join(str(row["hash"]) for row in made).encode()).hexdigest()


def last_seals(con: sa.Connection) -> dict[str, tuple[str, int]]:
    """The hash of each table's last seal, and the last row under it."""
    return {row.sealed_table: (row.hash, row.through) for row in con.execute(_last_seals())}


@cache
def _last_seals() -> sa.TextClause:
    one = sql("ledger", "last_seal")
    return sa.text(" UNION ALL ".join(one.format(table=name) for name in sealed_tables()))


def hash_since(con: sa.Connection, name: str, previous: str, since: int, through: int) -> str:
    """The hash of a seal over a table's rows after `since` up to `through`."""
    return next(hashes(con, name, [(previous, through)], since))


def hashes(con: sa.Connection, name: str, chain: Sequence[tuple[str, int]], since: int = 0) -> Iterator[str]:
    """The hash of each seal of a chain over a table, the rows of which are read once.

    A seal is given as the hash of the one before it and the last row under it; the rows of the first one begin
    after `since`.
    """
    statement, place = _recorded(name, bounded=since > 0)
    bounds = {"since": since, "through": max((through for _, through in chain), default=0)}
    # A server would send all of them at once otherwise.
    found = con.execute(statement, bounds, execution_options={"yield_per": _MANY})
    rows = (row for part in found.partitions() for row in part)
    row = next(rows, None)
    encode = msgspec.json.Encoder().encode
    for previous, through in chain:
        digest = hashlib.sha256(previous.encode())
        while row is not None and row[place] <= through:
            digest.update(encode(list(row)) + b"\n")
            row = next(rows, None)
        yield digest.hexdigest()


@cache
def _recorded(name: str, *, bounded: bool) -> tuple[sa.Select[Any], int]:
    """The statement for what a seal covers of a table, and the place of the column that counts its rows."""
    table, mutable = metadata().tables[name], tables()[name].mutable
    columns = [column for column in table.c if column.name not in mutable]
    count = table.c[counter(name)]
    query = sa.select(*columns).where(count <= sa.bindparam("through")).order_by(count)
    # The first seal has no lower bound, so that nothing can be slipped in before the first row.
    return query.where(count > sa.bindparam("since")) if bounded else query, columns.index(count)
