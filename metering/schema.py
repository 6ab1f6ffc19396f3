"""The data dictionary in `schemas/`: every stored table with its grain and a sentence per column.

The code creates its tables and Parquet files from these, and `verify` checks them against these.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from metering.shipped import shipped

if TYPE_CHECKING:
    import pyarrow as pa

FILES = ("events", "usage", "prices", "accounts", "invoices", "ledger", "payments", "runs")
"""The files of the dictionary, in the order in which data flows."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its kind (see TYPES in `schemas/README.md`) and the sentence that says what it holds."""

    name: str
    kind: str
    doc: str
    nullable: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A table: what one row is, what identifies it, where it is stored, and which columns may ever change."""

    name: str
    grain: str
    key: tuple[str, ...]
    stored: str
    columns: tuple[Column, ...]
    unique: tuple[tuple[str, ...], ...]
    unique_where: tuple[tuple[str, ...], str] | None
    indexes: tuple[tuple[str, ...], ...]
    mutable: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The column names, in order."""
        return [column.name for column in self.columns]


@cache
def tables() -> dict[str, Table]:
    """Every table of the dictionary, in the order of the data flow."""
    found: dict[str, Table] = {}
    for file in FILES:
        for name, body in tomllib.loads(shipped(f"schemas/{file}.toml").read_text("utf-8")).items():
            partial = body.get("unique_where")
            found[name] = Table(
                name=name,
                grain=body["grain"],
                key=tuple(body["key"]),
                stored=body["stored"],
                columns=tuple(
                    Column(column, kind.removesuffix("?"), doc, kind.endswith("?"))
                    for column, (kind, doc) in body["columns"].items()
                ),
                unique=tuple(map(tuple, body.get("unique", ()))),
                unique_where=(tuple(partial["columns"]), partial["where"]) if partial else None,
                indexes=tuple(map(tuple, body.get("indexes", ()))),
                mutable=tuple(body.get("mutable", ())),
            )
    return found


def table(name: str) -> Table:
    """One table of the dictionary; KeyError if there is none of that name."""
    return tables()[name]


def arrow_schema(name: str) -> pa.Schema:
    """The Arrow schema of a table: instants and money as int64, usage as decimal128(38, 0)."""
    import pyarrow as pa

    kinds = {
        "text": pa.string(),
        "day": pa.string(),
        "month": pa.string(),
        "decimal": pa.string(),
        "bytes": pa.binary(),
        "integer": pa.int64(),
        "money": pa.int64(),
        "instant": pa.int64(),
        "flag": pa.int64(),
        "usage": pa.decimal128(38, 0),
    }
    return pa.schema([pa.field(column.name, kinds[column.kind], column.nullable) for column in table(name).columns])


def empty_table(name: str) -> pa.Table:
    """A table without rows; Arrow's own way to make one loads pandas wherever that is installed."""
    import pyarrow as pa

    return pa.Table.from_batches([], arrow_schema(name))
