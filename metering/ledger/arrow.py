"""The ledger's tables as relations of DuckDB, read in one consistent view, with their exact types."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from metering.schema import Column, table, tables

if TYPE_CHECKING:
    import duckdb

    from metering.ledger.book import Book

_DUCK = {"integer": "BIGINT", "money": "BIGINT", "instant": "BIGINT", "flag": "BIGINT", "usage": "DECIMAL(38, 0)"}


def attach_ledger(con: duckdb.DuckDBPyConnection, book: Book, names: tuple[str, ...] | None = None) -> None:
    """Define a relation for each of the ledger's tables (default: all), as the ledger stands now."""
    from adbc_driver_sqlite import dbapi

    if not book.exists:
        book.create()
    wanted = names or tuple(name for name, found in tables().items() if found.stored == "ledger")
    # The connection does not commit by itself, so that all reads lie in one transaction.
    with dbapi.connect(f"file:{quote(str(book.path))}?mode=ro") as ledger, ledger.cursor() as cursor:
        for name in wanted:
            columns = table(name).columns
            cursor.execute(f"SELECT {', '.join(_read(column) for column in columns)} FROM {name}")
            con.register("ledger_rows", cursor.fetch_arrow_table())
            con.execute(
                f"CREATE OR REPLACE TEMP TABLE {name} AS"
                f" SELECT {', '.join(_typed(column) for column in columns)} FROM ledger_rows"
            )
            con.unregister("ledger_rows")


def _read(column: Column) -> str:
    """A column as ADBC can read it: it guesses types from the first rows, so that no text may be empty."""
    if column.nullable and column.kind not in _DUCK:
        return f'coalesce("{column.name}", \'\') AS "{column.name}"'
    return f'"{column.name}"'


def _typed(column: Column) -> str:
    kind = _DUCK.get(column.kind, "VARCHAR")
    if column.nullable and kind == "VARCHAR":
        return f'nullif(CAST("{column.name}" AS VARCHAR), \'\') AS "{column.name}"'
    return f'CAST("{column.name}" AS {kind}) AS "{column.name}"'
