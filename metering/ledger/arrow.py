"""The ledger's tables as relations of DuckDB, read in one consistent view, with their exact types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from metering.schema import Column, arrow_schema, empty_table, table, tables

if TYPE_CHECKING:
    import duckdb

    from metering.ledger.book import Book

_INTEGERS = {"integer", "money", "instant", "flag"}


def attach_ledger(con: duckdb.DuckDBPyConnection, book: Book, names: tuple[str, ...] | None = None) -> None:
    """Define a relation for each of the ledger's tables (default: all), as the ledger stands now."""
    wanted = names if names is not None else tuple(name for name, found in tables().items() if found.stored == "ledger")
    if not book.exists:
        for name in wanted:
            con.register(name, empty_table(name))
        return
    with book.snapshot() as read:
        for name in wanted:
            columns = table(name).columns
            query = f"SELECT {', '.join(map(_read, columns))} FROM {name}"
            found = read(query, pa.schema([(column.name, _kind(column)) for column in columns]))
            con.register(name, found.cast(arrow_schema(name)))


def _read(column: Column) -> str:
    """A column as both engines read it: usage of up to 38 digits is text in one of them."""
    return f'CAST("{column.name}" AS TEXT) AS "{column.name}"' if column.kind == "usage" else f'"{column.name}"'


def _kind(column: Column) -> pa.DataType:
    return pa.int64() if column.kind in _INTEGERS else pa.string()
