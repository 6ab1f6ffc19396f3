"""Finding what has ended by the key of a snapshot or a VM: a sorted run of entries in every folder of it.

A key is half of the one that the lake keeps beside a text, so it only filters: who is found without need is computed
again and comes out the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metering.events.filter import Filter
from metering.lake.entries import Entries, Kinds, Places, RunWriter, SortedRun

KINDS: Kinds = dict.fromkeys(("key", "subject_high", "ended_at", "batch"), np.int64)
"""One entry: a key and the subject that it leads to, which is itself, or a snapshot of that VM; when that ended; and
a batch that brought events of it, 0 in the entry of a VM."""

ENTRIES, BLOCKS, FILTER = "entries.index", "blocks.index", "filter.index"
"""The files: a sorted run, what proves its blocks, and bits by which most keys that are not here are told without a
look at a block."""
BITS = 8
"""Of the filter for each entry, at least."""

Keys = NDArray[np.int64]
NONE: Keys = np.empty(0, np.int64)


class Index:
    """The entries of one folder. Of its blocks, those are read and proved in which keys that are asked for can be.

    The other two files are to be proved as a whole before.
    """

    def __init__(self, folder: Path) -> None:
        self.run = SortedRun(folder / ENTRIES, folder / BLOCKS, KINDS)
        self._filter = Filter(np.fromfile(folder / FILTER, np.uint64))

    def rest(self) -> None:
        """Give back the pages that were looked at, which count as this process's memory, until the next question."""
        self.run.rest()

    def subjects(self, keys: Keys) -> Keys:
        """Those of some keys (sorted) that are subjects here."""
        found, _ = self._find(keys)
        return np.unique(found["key"][found["subject_high"] == found["key"]])

    def snapshots_of(self, vms: Keys, since: Keys) -> Keys:
        """The snapshots of some VMs (sorted) that had not ended before the instant given with the VM."""
        found, wanted = self._find(vms)
        return np.unique(found["subject_high"][found["ended_at"] >= since[wanted]])

    def batches(self, subjects: Keys) -> set[int]:
        """The batches that brought events of some subjects (sorted)."""
        found, _ = self._find(subjects)
        return set(np.unique(found["batch"]).tolist()) - {0}

    def _find(self, keys: Keys) -> tuple[Entries, Places]:
        """The entries of some keys, and of which of the keys each is."""
        likely = np.flatnonzero(self._filter.may_hold(keys.view(np.uint64)))
        found, places = self.run.find(keys[likely])
        return found, likely[places]


class Remaining:
    """The entries of a folder but for those of subjects (sorted) that have moved on."""

    def __init__(self, run: SortedRun, gone: Keys) -> None:
        self._run, self._gone = run, gone
        self.rows = run.rows
        """At the most."""

    @property
    def fences(self) -> Keys:
        return self._run.fences

    def between(self, start: int | None, stop: int | None) -> Entries:
        found = self._run.between(start, stop)
        if not len(self._gone):
            return found
        places = np.searchsorted(self._gone, found["subject_high"])
        return of_part(found, self._gone[np.minimum(places, len(self._gone) - 1)] != found["subject_high"])

    def rest(self) -> None:
        self._run.rest()


def filter_for(count: int) -> Filter:
    """An empty filter for so many entries at the most."""
    return Filter.of_power(max((count * BITS).bit_length(), 6))


class Held(NamedTuple):
    """What the entries of a folder are about: how many subjects, and the first and the last end of one, if any."""

    subjects: int
    ended_from: int | None
    ended_until: int | None


class IndexWriter:
    """Writes the index of a folder, of so many entries at the most; those of one key are added together."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self._run = RunWriter(folder / ENTRIES, folder / BLOCKS, KINDS)
        self._filter = filter_for(count)
        self._subjects = 0
        self._ends: list[int] = []

    def add(self, entries: Entries) -> None:
        """Add entries, none of which is before what was added."""
        self._run.add(entries)
        self._filter.add(entries["key"].view(np.uint64))
        subjects, ends = ends_of(entries)
        if len(ends):
            self._subjects += len(subjects)
            own = entries["ended_at"][entries["batch"] > 0]
            self._ends += [int(own.min()), int(own.max())]

    def close(self) -> Held:
        """Finish the files."""
        self._run.close()
        self._filter.words.tofile(self.folder / FILTER)
        return Held(self._subjects, min(self._ends, default=None), max(self._ends, default=None))


def write_entries(folder: Path, entries: Iterable[Entries], count: int) -> Held:
    """Write entries, which are in order, and so many at the most."""
    writer = IndexWriter(folder, count)
    for some in entries:
        writer.add(some)
    return writer.close()


def of_part(entries: Entries, rows: Any) -> Entries:
    """Some of the entries."""
    return {name: column[rows] for name, column in entries.items()}


def ends_of(entries: Entries) -> tuple[Keys, Keys]:
    """Each subject (sorted) among sorted entries, and when it had ended.

    The first end, where a snapshot and a VM share a key.
    """
    own = entries["batch"] > 0
    keys, ends = entries["key"][own], entries["ended_at"][own]
    first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])) if len(keys) else np.zeros(0, np.intp)
    return keys[first], np.minimum.reduceat(ends, first) if len(keys) else ends


def all_ends(entries: Iterator[Entries]) -> tuple[Keys, Keys]:
    """The same of all entries in order."""
    found = [(NONE, NONE), *(ends_of(some) for some in entries)]
    subjects, ends = zip(*found, strict=True)
    return np.concatenate(subjects), np.concatenate(ends)


def remaining(members: Iterable[tuple[Path, Keys]]) -> list[Remaining]:
    """The entries of several folders, each without the subjects that have moved on."""
    return [Remaining(SortedRun(folder / ENTRIES, folder / BLOCKS, KINDS), gone) for folder, gone in members]
