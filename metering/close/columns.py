"""Rows of a close as columns: compact enough that those of a million invoices fit into memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import pyarrow as pa

MANY = 2_000
"""Rows that are objects at once."""
Item = TypeVar("Item")


def blocks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """The items, so many at a time."""
    listed = iter(items)
    while part := list(islice(listed, MANY)):
        yield part


class Columns:
    """A table that grows by rows whose values come in the order of its fields."""

    def __init__(self, fields: pa.Schema) -> None:
        self._fields = fields
        self._rows: list[Sequence[Any]] = []
        self._batches: list[pa.RecordBatch] = []

    def extend(self, rows: Iterable[Sequence[Any]]) -> None:
        """Add rows."""
        self._rows += rows
        if len(self._rows) >= MANY:
            self._pack()

    def table(self) -> pa.Table:
        """All rows that were added."""
        self._pack()
        made = pa.Table.from_batches(self._batches, self._fields).combine_chunks()
        self._batches = made.to_batches()
        return made

    def _pack(self) -> None:
        if self._rows:
            columns = zip(zip(*self._rows, strict=True), self._fields, strict=True)
            arrays = [pa.array(values, field.type) for values, field in columns]
            self._batches.append(pa.record_batch(arrays, schema=self._fields))
            self._rows = []


def table_of(fields: pa.Schema, rows: Iterable[Sequence[Any]]) -> pa.Table:
    """The table of some rows."""
    made = Columns(fields)
    for part in blocks(rows):
        made.extend(part)
    return made.table()


def rows_of(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """The rows of a table, of which only so many are objects at once."""
    for batch in table.to_batches(max_chunksize=MANY):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
