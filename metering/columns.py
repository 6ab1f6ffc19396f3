"""Rows as columns: compact enough that those of a close of a million invoices fit into memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MANY = 2_000
"""Rows that are objects at once."""
Item = TypeVar("Item")
Made = TypeVar("Made")


def blocks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """The items, so many at a time."""
    listed = iter(items)
    while part := list(islice(listed, MANY)):
        yield part


def side_by_side(work: Callable[[Item], Made], parts: Iterable[Item]) -> Iterator[Made]:
    """What work makes of each part, in their order: on all cores, and little further than the reader has come."""
    workers = os.cpu_count() or 1
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for part in parts:
            waiting.append(pool.submit(work, part))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


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


def whole_rows_of(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """The rows of a table, with usage as integers."""
    for batch in table.to_batches(max_chunksize=MANY):
        columns = (_integers(one) if one.type == _USAGE else one.to_pylist() for one in batch.columns)
        yield from zip(*columns, strict=True)


def numbered(table: pa.Table, names: Sequence[str]) -> tuple[list[tuple[Any, ...]], NDArray[np.int64]]:
    """The distinct values of some columns, and for each row the number of its own among them."""
    codes = np.zeros(table.num_rows, np.int64)
    for name in names:
        values = table.column(name).combine_chunks().dictionary_encode()
        codes = codes * len(values.dictionary) + values.indices.to_numpy()
    _, first, numbers = np.unique(codes, return_index=True, return_inverse=True)
    return list(rows_of(table.select(list(names)).take(first))), numbers


_USAGE = pa.decimal128(38, 0)


def _integers(usage: pa.Array) -> list[int | None]:
    """Usage as integers, from its halves of 64 bits: a fifth of the time that it takes by way of decimals."""
    low, high = halves(usage)
    pairs = zip(high.tolist(), low.view(np.uint64).tolist(), strict=True)
    values: list[int | None] = [upper << 64 | lower for upper, lower in pairs]
    for place in np.flatnonzero(~is_there(usage)) if usage.null_count else ():
        values[place] = None
    return values


def halves(decimals: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The lower and the upper 64 bits of decimals of 128, as they lie in memory; a missing value has any."""
    both = np.frombuffer(decimals.buffers()[1], np.int64)[2 * decimals.offset :][: 2 * len(decimals)].reshape(-1, 2)
    return both[:, 0], both[:, 1]


def is_there(values: pa.Array) -> NDArray[np.bool_]:
    """Which values are not missing."""
    there: NDArray[np.bool_] = values.is_valid().to_numpy(zero_copy_only=False)
    return there
