"""The events of a run by type and time, out of sorted runs and a little at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from metering.events.arrays import numbers, whole
from metering.events.instants import Ints
from metering.events.scratch import Store

ROWS = 2 * 122_880
"""About how many rows are in memory at once."""
_EVERY = 512
"""One of so many rows is asked where the others lie."""
TOGETHER = 64
"""Runs of which rows are read before memory is given back: of each column a look maps 64 KiB."""
_FIRST = -(2**63)
"""The least key of a subject."""


@dataclass(frozen=True)
class Run:
    """A table of a store: events of one type, by time."""

    store: Store
    number: int
    kind: str
    rows: int
    first: int
    last: int

    def table(self) -> pa.RecordBatch:
        """The events."""
        return self.store.batch(self.number)

    def times(self) -> Ints:
        """When they happened."""
        return np.asarray(numbers(self.table().column("time")))


class _Cut(NamedTuple):
    """Where rows are parted: before those of an instant, or within it before a subject's."""

    time: int
    subject: int = _FIRST

    @property
    def is_within(self) -> bool:
        """Whether rows of that instant are on both sides."""
        return self.subject > _FIRST


def by_type_and_time(runs: list[Run]) -> Iterator[pa.Table]:
    """The rows of the runs by type, time and subject (see `placed`), in tables of about ROWS."""
    few: list[pa.Table] = []
    for kind in sorted({run.kind for run in runs}):
        members = [run for run in runs if run.kind == kind]
        cuts = _cuts(members)
        for start, end in zip([None, *cuts], [*cuts, None], strict=True):
            few.append(placed(_range(members, start, end)))
            for store in {run.store for run in members}:
                store.release()
            if sum(table.num_rows for table in few) >= ROWS:
                yield pa.concat_tables(few)
                few = []
    if few:
        yield pa.concat_tables(few)


def _cuts(runs: list[Run]) -> list[_Cut]:
    """Cuts between which there are about ROWS rows each, and at least one, but for one subject's at one instant."""
    if sum(run.rows for run in runs) <= ROWS:
        return []
    earliest = min(run.first for run in runs)
    before = accumulate((run.rows for run in runs), initial=0)
    asked = [run.times()[-rows % _EVERY :: _EVERY].copy() for run, rows in zip(_resting(runs), before, strict=False)]
    ranked = np.sort(np.concatenate(asked))
    cuts = []
    for time, count in Counter(ranked[ROWS // _EVERY :: ROWS // _EVERY].tolist()).items():
        # Keys are hashes: they part an instant evenly.
        places = range(0 if time > earliest else 1, count)
        cuts += [_Cut(time, _FIRST + (place << 64) // count) for place in places]
    return cuts


def _range(runs: list[Run], start: _Cut | None, end: _Cut | None) -> pa.Table:
    """The rows of the runs from one cut up to another."""
    tables: list[pa.Table] = []
    parts: list[pa.RecordBatch] = []
    for run in _resting(runs):
        if (start is None or run.last >= start.time) and (end is None or run.first < end.time + end.is_within):
            times = run.times()
            first = 0 if start is None else int(np.searchsorted(times, start.time))
            last = run.rows if end is None else int(np.searchsorted(times, end.time + end.is_within))
            part = run.table().slice(first, last - first)
            parts.append(_within(part, start, end) if any(cut and cut.is_within for cut in (start, end)) else part)
        if len(parts) >= TOGETHER:
            tables.append(pa.Table.from_batches(parts).combine_chunks())
            parts = []
    return pa.concat_tables([*tables, pa.Table.from_batches(parts, runs[0].store.schema)])


def _within(rows: pa.RecordBatch, start: _Cut | None, end: _Cut | None) -> pa.RecordBatch:
    """The rows that are not on the other side of a cut within an instant."""
    times, subjects = numbers(rows.column("time")), numbers(rows.column("subject_high"))
    kept = np.ones(len(times), np.bool_)
    if start:
        kept &= (times > start.time) | (subjects >= start.subject)
    if end:
        kept &= (times < end.time) | (subjects < end.subject)
    return rows.take(whole(np.flatnonzero(kept)))


def _resting(runs: list[Run]) -> Iterator[Run]:
    """The runs; what was read of their stores is given back after some of them."""
    for number, run in enumerate(runs, 1):
        yield run
        if number % TOGETHER == 0:
            run.store.release()


def placed(table: pa.Table) -> pa.Table:
    """Rows of one type by time, and those of one instant by their subject's key, then by source and id."""
    times = numbers(table["time"])
    order = np.argsort(times, kind="stable")
    tied = _tied(times[order])
    if len(tied):
        keys = [numbers(table[name])[order[tied]] for name in ("time", "subject_high", "subject_low")]
        by_subject = np.lexsort(keys[::-1])
        order[tied] = order[tied][by_subject]
        keys = [key[by_subject] for key in keys]
        same = np.logical_and.reduce([key[1:] == key[:-1] for key in keys])
        edges = np.flatnonzero(np.diff(same.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
        groups = [tied[start : end + 1] for start, end in edges.tolist()]
        if groups:
            # All texts at once: out of a table of many pieces some rows cost nearly as much as all.
            texts = iter(table.select(["source", "id"]).take(whole(order[np.concatenate(groups)])).to_pylist())
            for places in groups:
                keys_of = [tuple(next(texts).values()) for _ in places]
                order[places] = order[places][sorted(range(len(places)), key=keys_of.__getitem__)]
    return table if np.all(order[1:] > order[:-1]) else table.take(whole(order))


def _tied(times: Ints) -> Ints:
    """Where in rising times one is that another equals: what shares an instant stands together."""
    same = times[1:] == times[:-1]
    return np.flatnonzero(np.append(same, False) | np.append(False, same))
