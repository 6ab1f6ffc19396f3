"""The ledger's tables as relations of DuckDB, read in one consistent view, with their exact types."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import pyarrow as pa

from metering.schema import Column, arrow_schema, empty_table, table, tables

if TYPE_CHECKING:
    import duckdb

    from metering.ledger.book import Book

_INTEGERS = {"integer", "money", "instant", "flag"}


def attach_ledger(
    con: duckdb.DuckDBPyConnection,
    book: Book,
    names: Iterable[str] | Mapping[str, Collection[str]] | None = None,
    conditions: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Define a relation for each of the ledger's tables (default: all), as the ledger stands now.

    Tables may be named with the columns that are wanted of them, and with a condition that their rows must meet.
    """
    wanted = names if names is not None else tuple(name for name, found in tables().items() if found.stored == "ledger")
    if not book.exists:
        for name in wanted:
            con.register(name, empty_table(name))
        return
    with book.snapshot() as read:
        for name in wanted:
            columns = table(name).columns
            if isinstance(wanted, Mapping):
                columns = tuple(column for column in columns if column.name in wanted[name]) or columns[:1]
            where = f" WHERE {conditions[name]}" if name in conditions else ""
            query = f"SELECT {', '.join(map(_read, columns))} FROM {name}{where}"
            found = read(query, pa.schema([(column.name, _kind(column)) for column in columns]))
            schema = arrow_schema(name)
            con.register(name, found.cast(pa.schema([schema.field(column.name) for column in columns])))


def _read(column: Column) -> str:
    """A column as both engines read it: usage of up to 38 digits is text in one of them."""
    return f'CAST("{column.name}" AS TEXT) AS "{column.name}"' if column.kind == "usage" else f'"{column.name}"'


def _kind(column: Column) -> pa.DataType:
    return pa.int64() if column.kind in _INTEGERS else pa.string()
