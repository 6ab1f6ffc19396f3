"""The sources, checked: pieces of text go through the check on every core, and come back in their order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from metering.events.arrays import whole
from metering.events.keys import LAKE_KEYS, Keys, identity_keys, lake_keys
from metering.events.lines import Checked, check_lines
from metering.events.rows import check_rows, rows_of
from metering.events.sources import Broken, Piece, Source, Unreadable, pieces

KEYS = pa.schema([("key", pa.uint64()), *((name, pa.int64()) for name in LAKE_KEYS)])
INLINE_BYTES = 2**16
"""A piece up to this size is checked at once: handing it over would cost more."""


@dataclass(frozen=True)
class Part:
    """A piece as checked, its runs with KEYS; `begins` and `done` are those of the piece."""

    checked: Checked
    begins: list[tuple[int, int]]
    done: int


def checked_parts(sources: Sequence[Source]) -> Iterator[Part | Broken]:
    """The parts of all sources in order.

    The check is numpy's, Arrow's and DuckDB's C code, which lets go of the interpreter: so threads are enough, and
    none of them outlives the run.
    """
    workers = os.cpu_count() or 1
    waiting: deque[Future[Part] | Broken] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in pieces(sources):
                if isinstance(item, int):
                    while waiting:
                        yield _settled(waiting.popleft())
                    yield from _parquet(item, sources, pool, 2 * workers)
                elif isinstance(item, Piece):
                    if not waiting and len(item.text) <= INLINE_BYTES:
                        yield _check(item)
                        continue
                    waiting.append(pool.submit(_check, item))
                else:
                    waiting.append(item)
                while len(waiting) > 2 * workers:
                    yield _settled(waiting.popleft())
            while waiting:
                yield _settled(waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _settled(item: Future[Part] | Broken) -> Part | Broken:
    return item if isinstance(item, Broken) else item.result()


def _check(piece: Piece) -> Part:
    return Part(_with_keys(check_lines(piece.text)), piece.begins, piece.done)


def _parquet(file_no: int, sources: Sequence[Source], pool: ThreadPoolExecutor, most: int) -> Iterator[Part | Broken]:
    """The parts of a Parquet file; after one that cannot be read comes no other."""
    done = sum(source.size_bytes for source in sources[:file_no])
    waiting: deque[Future[Checked]] = deque()
    begins = [(file_no, 0)]
    try:
        for rows in rows_of(sources[file_no]):
            waiting.append(pool.submit(_check_rows, rows))
            if len(waiting) > most:
                yield Part(waiting.popleft().result(), begins, done)
                begins = []
        while waiting:
            yield Part(waiting.popleft().result(), begins, done)
            begins = []
        if begins:
            yield Part(check_lines(b""), begins, done)
    except Unreadable as error:
        yield Broken(file_no, str(error))


def _check_rows(rows: pa.Table) -> Checked:
    return _with_keys(check_rows(rows))


def _with_keys(checked: Checked) -> Checked:
    runs = []
    for run in checked.runs:
        run = run.combine_chunks()
        source, identity = (run[name].combine_chunks() for name in ("source", "id"))
        keys: Keys = identity_keys(source, identity)
        for name, values in {"key": whole(keys, pa.uint64()), **lake_keys(run)}.items():
            run = run.append_column(KEYS.field(name), values)
        runs.append(run)
    return Checked(runs, checked.faults, checked.text, checked.starts)
