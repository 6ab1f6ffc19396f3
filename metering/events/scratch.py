"""What a run holds before its commit: tables and raw lines on disk, appended to and taken back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import pyarrow as pa

_LEVEL = 1
_WAITING = 4
"""How many pieces of raw text may wait to be compressed."""


class Store:
    """Tables of one schema, appended to a file and read back through memory mapping."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.schema = schema
        self.kept: list[int] = []
        self.rows = 0
        self._written = 0
        self._writer = pa.ipc.new_file(path, schema)

    def add(self, table: pa.Table) -> int:
        """Append a table; its number among those of the file."""
        if table.num_rows:
            self._writer.write_batch(_one_batch(table, self.schema))
            self.kept.append(self._written)
            self._written += 1
            self.rows += table.num_rows
        return self._written - 1

    def mark(self) -> tuple[int, int]:
        """Where the store is now."""
        return len(self.kept), self.rows

    def rewind(self, mark: tuple[int, int]) -> None:
        """Forget what was added since."""
        length, self.rows = mark
        del self.kept[length:]

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()

    @cached_property
    def opened(self) -> pa.RecordBatchFileReader:
        """The finished file, for reading tables by their numbers."""
        return pa.ipc.open_file(pa.memory_map(str(self.path)))

    def table(self) -> pa.Table:
        """All that was added, memory-mapped."""
        return pa.Table.from_batches([self.opened.get_batch(number) for number in self.kept], self.schema)


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
