"""The ledger's tables for SQLAlchemy, made from the data dictionary in `schemas/`."""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from metering.schema import Column, Table, tables
from metering.sql import sql


class _Digits(sa.TypeDecorator[int]):
    """An integer of up to 38 digits, stored as decimal digits: SQLite has no wider integer than 64 bits."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> int | None:
        return None if value is None else int(value)


_INTEGER = sa.BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
# Texts are compared by code point everywhere, whatever language a server speaks.
_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_USAGE = _Digits().with_variant(sa.Numeric(38, 0), "postgresql")
_TYPES: dict[str, Any] = {
    "text": _TEXT,
    "day": _TEXT,
    "month": _TEXT,
    "decimal": _TEXT,
    "integer": _INTEGER,
    "money": _INTEGER,
    "instant": _INTEGER,
    "flag": _INTEGER,
    "usage": _USAGE,
}


@cache
def metadata() -> sa.MetaData:
    """Every table that the ledger stores."""
    found = sa.MetaData()
    for table in tables().values():
        if table.stored == "ledger":
            _add(found, table)
    return found


WHERE = "where"
"""The condition of a partial index in its `info`: to name a database here would load all that is known of it."""
OWN_COUNTERS = {"transactions": "transaction", "entries": "entry", "runs": "run"}
"""Tables whose key counts their rows already."""


def counter(name: str) -> str:
    """The column that counts a table's rows from 1 in the order of recording: what a seal goes by."""
    return OWN_COUNTERS.get(name, "recorded")


@cache
def last_rows(*names: str) -> sa.TextClause:
    """The statement that asks for the last row of each of some tables, in the order of recording; 0 of an empty one."""
    one = sql("ledger", "last_row")
    return sa.text(" UNION ALL ".join(one.format(table=name, counter=counter(name)) for name in names))


def _add(found: sa.MetaData, table: Table) -> None:
    constraints: list[sa.Constraint] = [sa.UniqueConstraint(*columns) for columns in table.unique]
    counted: list[sa.Column[Any]] = []
    if table.name not in OWN_COUNTERS:
        counted.append(sa.Column("recorded", _INTEGER, primary_key=True, autoincrement=False))
        constraints.append(sa.CheckConstraint("recorded > 0"))
        constraints.append(sa.UniqueConstraint(*table.key))
    if table.name == "entries":
        constraints += [
            sa.CheckConstraint("debit_minor >= 0 AND credit_minor >= 0"),
            sa.CheckConstraint("(debit_minor = 0) <> (credit_minor = 0)"),
            sa.ForeignKeyConstraint(
                ["transaction"], ["transactions.transaction"], deferrable=True, initially="DEFERRED"
            ),
        ]
    made = sa.Table(
        table.name,
        found,
        *counted,
        *(_column(table, column) for column in table.columns),
        *constraints,
        sqlite_strict=True,
    )
    for columns in table.indexes:
        sa.Index(f"{table.name}_by_{'_'.join(columns)}", *(made.c[name] for name in columns))
    if table.unique_where:
        columns, where = table.unique_where
        name = f"{table.name}_one_per_{'_'.join(columns)}"
        sa.Index(name, *(made.c[name] for name in columns), unique=True, info={WHERE: where})


def _column(table: Table, column: Column) -> sa.Column[Any]:
    return sa.Column(
        column.name,
        _TYPES[column.kind],
        *([sa.CheckConstraint(f'"{column.name}" IN (0, 1)')] if column.kind == "flag" else []),
        primary_key=column.name == OWN_COUNTERS.get(table.name),
        nullable=column.nullable,
        autoincrement=False,
        comment=column.doc,
    )
