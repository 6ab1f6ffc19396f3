"""The ledger's tables as relations of DuckDB, read in one consistent view, with their exact types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metering.errors import MeteringError
from metering.schema import Column, arrow_schema, table, tables

if TYPE_CHECKING:
    import duckdb

    from metering.ledger.book import Book

_NUMBERS = {"integer", "money", "instant", "flag", "usage"}


def attach_ledger(con: duckdb.DuckDBPyConnection, book: Book, names: tuple[str, ...] | None = None) -> None:
    """Define a relation for each of the ledger's tables (default: all), as the ledger stands now."""
    wanted = names if names is not None else tuple(name for name, found in tables().items() if found.stored == "ledger")
    if not book.exists:
        for name in wanted:
            con.register("ledger_rows", arrow_schema(name).empty_table())
            con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM ledger_rows")
            con.unregister("ledger_rows")
        return
    from adbc_driver_manager import Error

    try:
        with book.snapshot() as ledger, ledger.cursor() as cursor:
            for name in wanted:
                cursor.execute(f"SELECT {', '.join(map(_read, table(name).columns))} FROM {name}")
                con.register(name, _typed(cursor.fetch_arrow_table(), name))
    except Error as error:
        raise MeteringError(
            f"The ledger {book.name} cannot be read: {str(error).splitlines()[0]}.",
            unchanged="The ledger is as it was.",
            remedy="Run `metering verify`; if it is damaged, restore it from a backup.",
        ) from error


def _read(column: Column) -> str:
    """A column as ADBC can read it: SQLite's guesses types from the first rows, so that no text may be empty."""
    if column.kind == "usage":
        return f'CAST("{column.name}" AS TEXT) AS "{column.name}"'
    if column.nullable and column.kind not in _NUMBERS:
        return f'coalesce("{column.name}", \'\') AS "{column.name}"'
    return f'"{column.name}"'


def _typed(read: pa.Table, name: str) -> pa.Table:
    schema = arrow_schema(name)
    arrays = []
    for field, array in zip(schema, read.columns, strict=True):
        values = array.cast(field.type)
        if field.nullable and pa.types.is_string(field.type):
            values = pc.if_else(pc.equal(values, ""), pa.scalar(None, field.type), values)
        arrays.append(values)
    return pa.Table.from_arrays(arrays, schema=schema)
