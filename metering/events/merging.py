"""The events of a run by type and time, out of sorted runs and a little at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from metering.events.arrays import numbers, whole
from metering.events.instants import Ints
from metering.events.scratch import Store

ROWS = 2 * 122_880
"""About how many rows are in memory at once."""
_EVERY = 512
"""One of so many rows is asked where the others lie."""


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


def by_type_and_time(runs: list[Run]) -> Iterator[pa.Table]:
    """The rows of the runs by type, time and line (see `placed`), in tables of about ROWS."""
    few: list[pa.Table] = []
    for kind in sorted({run.kind for run in runs}):
        members = [run for run in runs if run.kind == kind]
        cuts = _cuts(members)
        for start, end in zip([None, *cuts], [*cuts, None], strict=True):
            few.append(_range(members, start, end))
            for store in {run.store for run in members}:
                store.release()
            if sum(table.num_rows for table in few) >= ROWS:
                yield pa.concat_tables(few)
                few = []
    if few:
        yield pa.concat_tables(few)


def _cuts(runs: list[Run]) -> list[int]:
    """Instants between which there are about ROWS rows each, and at least one: what shares an instant is not cut."""
    if sum(run.rows for run in runs) <= ROWS:
        return []
    earliest = min(run.first for run in runs)
    ranked = np.sort(np.concatenate([run.times()[_EVERY // 2 :: _EVERY] for run in runs]))
    cuts: list[int] = np.unique(ranked[ROWS // _EVERY :: ROWS // _EVERY]).tolist()
    return [cut for cut in cuts if cut > earliest]


def _range(runs: list[Run], start: int | None, end: int | None) -> pa.Table:
    """The rows of the runs from one instant up to another, by time and line."""
    parts = []
    for run in runs:
        if (start is None or run.last >= start) and (end is None or run.first < end):
            times = run.times()
            first = 0 if start is None else int(np.searchsorted(times, start))
            last = run.rows if end is None else int(np.searchsorted(times, end))
            parts.append(run.table().slice(first, last - first))
    table = pa.Table.from_batches(parts)
    times, lines = numbers(table["time"]), numbers(table["line"])
    order = np.argsort(times, kind="stable")
    tied = _tied(times[order])
    some = order[tied]
    order[tied] = some[np.lexsort((lines[some], times[some]))]
    return _taken(table, _placed(table, order, tied))


def placed(table: pa.Table) -> pa.Table:
    """Rows of one type, which are by time, with those of one subject and instant by source and id."""
    return _taken(table, _placed(table, np.arange(table.num_rows), _tied(numbers(table["time"]))))


def _taken(table: pa.Table, order: Ints) -> pa.Table:
    return table if np.all(order[1:] > order[:-1]) else table.take(whole(order))


def _tied(times: Ints) -> Ints:
    """Where in rising times one is that another equals: what shares an instant stands together."""
    same = times[1:] == times[:-1]
    return np.flatnonzero(np.append(same, False) | np.append(False, same))


def _placed(table: pa.Table, order: Ints, tied: Ints) -> Ints:
    """An order of rows by time, with those of one subject and instant by source and id."""
    if not len(tied):
        return order
    rows = order[tied]
    keys = [numbers(table[name])[rows] for name in ("time", "subject_high", "subject_low")]
    by_subject = np.lexsort(keys[::-1])
    keys = [key[by_subject] for key in keys]
    same = np.logical_and.reduce([key[1:] == key[:-1] for key in keys])
    edges = np.flatnonzero(np.diff(same.astype(np.int8), prepend=0, append=0))
    groups = [np.sort(tied[by_subject[start : end + 1]]) for start, end in edges.reshape(-1, 2).tolist()]
    if groups:
        # All texts at once: out of a table of many pieces some rows cost nearly as much as all.
        texts = iter(table.select(["source", "id"]).take(whole(order[np.concatenate(groups)])).to_pylist())
        for places in groups:
            keys_of = [tuple(next(texts).values()) for _ in places]
            order[places] = order[places][sorted(range(len(places)), key=keys_of.__getitem__)]
    return order
