"""DuckDB: its connections, and the few statements around a relation's query, which itself is a `.sql` file.

Beside `relations.py`, which puts queries together, the only place where Python spells statements of DuckDB. A query
that is spelled here takes rows of one relation as they are.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import duckdb
import pyarrow as pa
from numpy.typing import NDArray

_engines: dict[tuple[int, str | None, bool], duckdb.DuckDBPyConnection] = {}
"""By process: an engine's threads do not live on in a forked one."""
_opening = Lock()

FEW = "few_events"
"""A relation that a connection has where its events fit into memory easily."""


def connect(
    memory_limit: str | None = None, spill: Path | None = None, *, ordered: bool = False
) -> duckdb.DuckDBPyConnection:
    """An in-memory connection in UTC that never reaches for the network; `ordered` keeps rows as they were given.

    Connections of the same kind share one engine, which takes 30 ms to start and holds the memory limit for all
    of them: so everything that is defined on one must be temporary. One with a folder to spill to has its own.
    """
    if spill:
        con = _engine(memory_limit, ordered, spill)
    else:
        with _opening:
            kind = (os.getpid(), memory_limit, ordered)
            if kind not in _engines:
                _engines[kind] = _engine(memory_limit, ordered)
            con = _engines[kind].cursor()
    con.execute("SET TimeZone = 'UTC'")
    return con


def _engine(memory_limit: str | None, ordered: bool, spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "preserve_insertion_order": ordered,
    }
    if ordered:
        # Several threads mix up the batches of an Arrow table, whatever is said of its order.
        settings["threads"] = 1
    if memory_limit:
        settings["memory_limit"] = memory_limit
    if spill:
        settings["temp_directory"] = str(spill)
    return duckdb.connect(":memory:", config=settings)


def give_files(
    con: duckdb.DuckDBPyConnection, name: str, paths: Iterable[Path | str], cut: str | None = None, columns: str = "*"
) -> None:
    """Define the rows of some Parquet files, or those of them for which a condition holds."""
    listed = ", ".join(f"'{quoted(path)}'" for path in paths)
    view(con, name, every(f"read_parquet([{listed}])", columns, cut=cut or ""))


def give_stream(con: duckdb.DuckDBPyConnection, name: str, rows: pa.RecordBatchReader) -> None:
    """Hand in a relation that is read once, as it comes."""
    drop(con, name, "VIEW")
    con.register(name, rows)


def has(con: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Whether a connection has a relation of this name: a fraction of what it takes to list all of them."""
    try:
        con.execute(every(name) + " LIMIT 0")
    except duckdb.CatalogException:
        return False
    return True


def answer(con: duckdb.DuckDBPyConnection, query: str) -> pa.Table:
    """The rows of a query, in the order that it asks for.

    Over FEW events it is asked for without a relation, which would be bound twice. Several threads mix up the vectors
    of such an answer, unless rows are to stay as they were given.
    """
    if not has(con, FEW):
        return con.sql(query).to_arrow_table()
    con.execute("SET SESSION preserve_insertion_order = true")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Arrow output on a DB-API result")
            return con.execute(query).to_arrow_table()
    finally:
        con.execute("RESET SESSION preserve_insertion_order")


def view(con: duckdb.DuckDBPyConnection, name: str, query: str) -> None:
    """Define a relation that is computed where it is read."""
    con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {query}")


def table(con: duckdb.DuckDBPyConnection, name: str, query: str, values: Sequence[object] = ()) -> None:
    """Compute a relation now, once for all that read it; `values` are those of the query's parameters."""
    con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {query}", values)


def add(con: duckdb.DuckDBPyConnection, name: str, query: str) -> None:
    """Add rows to a relation that was computed."""
    con.execute(f"INSERT INTO {name} {query}")


def every(relation: str, columns: str = "*", *, order: str = "", cut: str = "") -> str:
    """The query for a relation: all of it, or some columns, sorted, or those rows for which a condition holds."""
    where, by = (f" WHERE {cut}" if cut else ""), (f" ORDER BY {order}" if order else "")
    return f"SELECT {columns} FROM {relation}{where}{by}"


def nothing(columns: Mapping[str, str]) -> str:
    """The query for no rows, of columns with these types."""
    listed = ", ".join(f'CAST(NULL AS {kind}) AS "{name}"' for name, kind in columns.items())
    return f"SELECT {listed} WHERE false"


def give_rows(
    con: duckdb.DuckDBPyConnection, name: str, columns: Mapping[str, str], rows: Iterable[Sequence[object]]
) -> None:
    """Hand in a small relation as rows, of columns with these types."""
    values = list(rows)
    lists = [[row[place] for row in values] for place in range(len(columns))]
    fields = ", ".join(f'CAST(unnest(?) AS {kind}) AS "{column}"' for column, kind in columns.items())
    table(con, name, f"SELECT {fields}", lists)


def give(con: duckdb.DuckDBPyConnection, name: str, rows: pa.Table | Mapping[str, NDArray[Any]]) -> None:
    """Hand in a relation; as NumPy's columns where they are at hand, because Arrow loads pandas to make a table."""
    con.register("given", rows if isinstance(rows, pa.Table) else dict(rows))
    table(con, name, every("given"))
    con.unregister("given")


def single(con: duckdb.DuckDBPyConnection, query: str) -> Any:
    """The one value of a query's one row."""
    ((value,),) = con.execute(query).fetchall()
    return value


def count(con: duckdb.DuckDBPyConnection, query: str) -> int:
    """How many rows a query has."""
    return int(single(con, f"SELECT count(*) FROM ({query})"))


def copy(con: duckdb.DuckDBPyConnection, query: str, path: Path, form: str) -> int:
    """Write the rows of a query to a Parquet file; how many there are."""
    return int(single(con, f"COPY ({query}) TO '{quoted(path)}' (FORMAT parquet, {form})"))


def drop(con: duckdb.DuckDBPyConnection, name: str, kind: Literal["TABLE", "VIEW"] = "TABLE") -> None:
    """Forget a relation that was computed, or one that is computed where it is read."""
    con.execute(f"DROP {kind} IF EXISTS temp.{name}")


def drop_all_but(con: duckdb.DuckDBPyConnection, *names: str) -> None:
    """Forget all relations that were computed, which take memory, but for some."""
    for (name,) in con.execute(every("duckdb_tables()", "table_name", cut="temporary")).fetchall():
        if name not in names:
            drop(con, name)


# Tables that others read, in a file of DuckDB's own or in a database that is handed over


@contextmanager
def attached(con: duckdb.DuckDBPyConnection, path: Path, name: str, how: str) -> Iterator[None]:
    """A DuckDB file under a name, which all connections of the engine share; let go of whatever happens."""
    con.execute(f"ATTACH '{quoted(path)}' AS {name} {how}")
    try:
        yield
    except BaseException:
        with suppress(duckdb.Error):
            con.execute("ROLLBACK")
        with suppress(duckdb.Error):
            con.execute(f"DETACH {name}")
        raise
    con.execute(f"DETACH {name}")


@contextmanager
def together(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Statements that are written at once; whoever lets go of the file takes them back where one fails."""
    con.execute("BEGIN")
    yield
    con.execute("COMMIT")


def write_table(con: duckdb.DuckDBPyConnection, name: str, query: str) -> None:
    """Write a relation; in an attached file its name follows the file's, with a dot between."""
    con.execute(f"CREATE TABLE {name} AS {query}")


def write_view(con: duckdb.DuckDBPyConnection, name: str, query: str) -> None:
    """Write what a relation is called besides."""
    con.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")


def comment(con: duckdb.DuckDBPyConnection, kind: Literal["TABLE", "VIEW", "COLUMN"], name: str, text: str) -> None:
    """Write down what a relation or a column is."""
    con.execute(f"COMMENT ON {kind} {name} IS '{quoted(text)}'")


def quoted(text: object) -> str:
    """A path or a text as it stands between quotes."""
    return str(text).replace("'", "''")
