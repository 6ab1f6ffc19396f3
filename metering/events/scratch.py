"""What a run holds before its commit: tables and raw lines, on disk where they are many, appended to and taken back."""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from metering.events.arrays import numbers, whole
from metering.events.keys import Keys

_LEVEL = 1
_WAITING = 4
"""How many pieces of raw text may wait to be compressed."""


class Store:
    """Tables of one schema, appended and read back: in memory while there is room, then in a mapped file."""

    def __init__(self, path: Path, schema: pa.Schema, room: int) -> None:
        self.path = path
        self.schema = schema
        self.kept: list[int] = []
        self.rows = 0
        self._held: list[pa.RecordBatch] = []
        self._room = room
        self._written = 0
        self._writer: pa.RecordBatchFileWriter | None = None

    def add(self, table: pa.Table) -> int:
        """Append a table; its number among those of the store."""
        if table.num_rows:
            batch = _one_batch(table, self.schema)
            self._room -= batch.nbytes
            if self._room >= 0:
                self._held.append(batch)
            else:
                self._writer = self._writer or pa.ipc.new_file(self.path, self.schema)
                self._writer.write_batch(batch)
                self._written += 1
            self.kept.append(len(self._held) + self._written - 1)
            self.rows += table.num_rows
        return len(self._held) + self._written - 1

    def mark(self) -> tuple[int, int]:
        """Where the store is now."""
        return len(self.kept), self.rows

    def rewind(self, mark: tuple[int, int]) -> None:
        """Forget what was added since."""
        length, self.rows = mark
        del self.kept[length:]

    def close(self) -> None:
        """Finish the file."""
        if self._writer:
            self._writer.close()

    @cached_property
    def _mapped(self) -> mmap.mmap:
        with self.path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    @cached_property
    def _opened(self) -> pa.RecordBatchFileReader:
        return pa.ipc.open_file(pa.py_buffer(self._mapped))

    def release(self) -> None:
        """Give back the file's pages that were read; those of tables in use are read again where they are asked for."""
        if self._written:
            self._mapped.madvise(mmap.MADV_DONTNEED)

    def batch(self, number: int) -> pa.RecordBatch:
        """A table by its number, when the file is finished."""
        held = len(self._held)
        return self._held[number] if number < held else self._opened.get_batch(number - held)

    def table(self) -> pa.Table:
        """All that was added, when the file is finished."""
        return pa.Table.from_batches([self.batch(number) for number in self.kept], self.schema)

    def rows_of(self, name: str, values: Keys) -> pa.Table:
        """The rows whose key in a column is one of some; of the others nothing else is read."""
        found = [self.schema.empty_table()]
        ranked = np.sort(values)
        for number in self.kept if len(ranked) else ():
            batch = self.batch(number)
            keys = numbers(batch.column(name))
            at = np.searchsorted(ranked, keys)
            places = np.flatnonzero(ranked[np.minimum(at, len(ranked) - 1)] == keys)
            if len(places):
                found.append(pa.Table.from_batches([batch.take(whole(places))]))
            self.release()
        return pa.concat_tables(found)


def _one_batch(table: pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    batches = table.select(schema.names).cast(schema).combine_chunks().to_batches()
    return batches[0]


class RawLines:
    """Raw lines in zstd frames, compressed and written by a thread of their own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = 0
        self._file = path.open("wb")
        self._codec = pa.Codec("zstd", _LEVEL)
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def add(self, make: Callable[[], bytes], lines: int) -> None:
        """Append the lines that `make` gives, each with a line feed."""
        if lines:
            self.lines += lines
            self._waiting.append(self._thread.submit(self._write, make))
            while len(self._waiting) > _WAITING:
                self._waiting.popleft().result()

    def mark(self) -> tuple[int, int]:
        """Where the file is now."""
        self._settle()
        return self._file.tell(), self.lines

    def rewind(self, mark: tuple[int, int]) -> None:
        """Forget what was added since."""
        self._settle()
        place, self.lines = mark
        self._file.truncate(place)
        self._file.seek(place)

    def close(self) -> None:
        """Finish the file."""
        try:
            self._settle()
        finally:
            self._thread.shutdown(cancel_futures=True)
            self._file.close()

    def move(self, target: Path) -> None:
        """Put the finished file in its place."""
        self.path.replace(target)

    def _settle(self) -> None:
        while self._waiting:
            self._waiting.popleft().result()

    def _write(self, make: Callable[[], bytes]) -> None:
        self._file.write(self._codec.compress(make(), asbytes=True))
