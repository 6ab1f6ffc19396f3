"""Copies a whole ledger row by row, from one engine's database to another's."""

from __future__ import annotations

import sqlalchemy as sa

from metering.ledger.book import put_rows
from metering.ledger.tables import counter, metadata

_ROWS = 5_000


def copy_rows(source: sa.Connection, target: sa.Connection) -> None:
    """Copy every row of every table that is there; `target` is a ledger without rows, in a write transaction."""
    there = set(sa.inspect(source).get_table_names())
    for table in (table for table in _in_order() if table.name in there):
        query = sa.select(table).order_by(table.c[counter(table.name)])
        with source.execution_options(yield_per=_ROWS).execute(query) as result:
            put_rows(target, table.name, tuple(table.c.keys()), map(tuple, result))


def _in_order() -> list[sa.Table]:
    """Every table; the entries before the heads that say they are complete."""
    found = metadata().tables
    return [found["entries"], *(table for name, table in found.items() if name != "entries")]
