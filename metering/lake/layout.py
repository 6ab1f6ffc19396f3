"""How a file of events is laid out, so that metering reads no more of it than it needs.

The rows lie by type and time, and no row group holds two types: a question for one type skips the others by their
statistics. Beside the texts lie their keys, so that joins need not read texts; and only columns of few values have a
dictionary, for on the others it costs time and saves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from metering.schema import arrow_schema

FIRST_LAYOUT, LAYOUT = 1, 2
"""Versions of the layout of events: files of the first have no keys but the subject's, see `keyed_events.sql`."""
PARQUET = {"compression": "zstd"}
ROW_GROUP = 122_880
"""Rows of a row group, at the most."""
_FEW_VALUES = ["batch", "ingested_at", "source", "type", "account_id", "project_id", "region", "resource_type"]
_RISING = dict.fromkeys(("time", "place"), "DELTA_BINARY_PACKED")


def write_events(tables: Iterable[pa.Table], path: Path) -> None:
    """Write tables of events, which are in order; the next is made while one is written."""
    schema = arrow_schema("events")
    settings: dict[str, Any] = {"use_dictionary": _FEW_VALUES, "column_encoding": _RISING, **PARQUET}
    with (
        pq.ParquetWriter(path, schema, write_statistics=["type", "time"], **settings) as writer,
        ThreadPoolExecutor(1) as pool,
    ):
        writing: Future[None] | None = None
        for group in _row_groups(tables):
            if writing:
                writing.result()
            writing = pool.submit(writer.write_table, group, ROW_GROUP)
        if writing:
            writing.result()


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Tables of one type each, of whole row groups but for the last of a type."""
    rest: list[pa.Table] = []
    for part in (part for table in tables for part in _by_type(table)):
        if rest and rest[0]["type"][0] != part["type"][0]:
            yield pa.concat_tables(rest)
            rest = []
        whole = pa.concat_tables([*rest, part])
        cut = whole.num_rows // ROW_GROUP * ROW_GROUP
        if cut:
            yield whole.slice(0, cut)
        rest = [whole.slice(cut)] if cut < whole.num_rows else []
    if rest:
        yield pa.concat_tables(rest)


def _by_type(table: pa.Table) -> Iterator[pa.Table]:
    """The parts of a table that is sorted by type."""
    if not table.num_rows:
        return
    codes = table["type"].combine_chunks().dictionary_encode().indices
    edges = [0, *(np.flatnonzero(np.diff(np.frombuffer(codes.buffers()[1], np.int32, len(codes)))) + 1).tolist()]
    edges.append(table.num_rows)
    for start, end in pairwise(edges):
        yield table.slice(start, end - start)
