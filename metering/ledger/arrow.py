"""The ledger's tables as relations of DuckDB, read in one consistent view, with their exact types."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from metering.errors import MeteringError
from metering.schema import Column, arrow_schema, table, tables

if TYPE_CHECKING:
    import duckdb

    from metering.ledger.book import Book

_DUCK = {"integer": "BIGINT", "money": "BIGINT", "instant": "BIGINT", "flag": "BIGINT", "usage": "DECIMAL(38, 0)"}


def attach_ledger(con: duckdb.DuckDBPyConnection, book: Book, names: tuple[str, ...] | None = None) -> None:
    """Define a relation for each of the ledger's tables (default: all), as the ledger stands now."""
    wanted = names or tuple(name for name, found in tables().items() if found.stored == "ledger")
    if not book.exists:
        for name in wanted:
            con.register("ledger_rows", arrow_schema(name).empty_table())
            con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM ledger_rows")
            con.unregister("ledger_rows")
        return
    from adbc_driver_sqlite import dbapi

    try:
        # The connection does not commit by itself, so that all reads lie in one transaction.
        with dbapi.connect(f"file:{quote(str(book.path))}?mode=ro") as ledger, ledger.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout = 60000")
            for name in wanted:
                columns = table(name).columns
                cursor.execute(f"SELECT {', '.join(_read(column) for column in columns)} FROM {name}")
                con.register("ledger_rows", cursor.fetch_arrow_table())
                con.execute(
                    f"CREATE OR REPLACE TEMP TABLE {name} AS"
                    f" SELECT {', '.join(_typed(column) for column in columns)} FROM ledger_rows"
                )
                con.unregister("ledger_rows")
    except dbapi.Error as error:
        raise MeteringError(
            f"The ledger {book.path.name} cannot be read: {str(error).splitlines()[0]}.",
            unchanged="The ledger is as it was.",
            remedy="Run `metering verify`; if the file is damaged, restore it from a backup.",
        ) from error


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
