"""Finding what has ended by the key of a snapshot or a VM: sorted arrays, memory-mapped, in every folder of it.

A key is half of the one that the lake keeps beside a text, so it only filters: who is found without need is computed
again and comes out the same.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metering.events.filter import Filter

COLUMNS = ("key", "subject_high", "ended_at", "batch")
"""One entry: a key and the subject that it leads to, which is itself, or a snapshot of that VM; when that ended; and
a batch that brought events of it, 0 in the entry of a VM."""

ENTRIES, BLOCKS, FILTER = "entries.index", "blocks.index", "filter.index"
"""The files: the columns one after another; of each block of entries its first key and its hash; and bits by which most
keys that are not here are told without a look at a block."""
BLOCK = 512
"""Entries that are proved together."""
BITS = 8
"""Of the filter for each entry, at least."""
_BLOCK = np.dtype([("first", np.int64), ("sha256", np.uint8, 32)])

Keys = NDArray[np.int64]
Places = NDArray[np.intp]
NONE: Keys = np.empty(0, np.int64)
_NOWHERE: Places = np.empty(0, np.intp)


Entries = dict[str, Keys]
"""Entries as columns."""


class Index:
    """The entries of one folder. Of its blocks, those are read and proved in which keys that are asked for can be.

    The other two files are to be proved as a whole before.
    """

    def __init__(self, folder: Path) -> None:
        self._blocks = np.fromfile(folder / BLOCKS, _BLOCK)
        self._filter = Filter(np.fromfile(folder / FILTER, np.uint64))
        self._mapped = _mapped(folder / ENTRIES)
        columns: Keys = np.frombuffer(self._mapped, np.int64) if self._mapped else NONE
        if len(columns) % len(COLUMNS) or -(-len(columns) // len(COLUMNS) // BLOCK) != len(self._blocks):
            raise ValueError(f"{folder.name}/{ENTRIES} has another size than was written")
        self._arrays: Entries = dict(zip(COLUMNS, columns.reshape(len(COLUMNS), -1), strict=True))
        self._proved = np.zeros(len(self._blocks), bool)

    def rest(self) -> None:
        """Give back the pages that were looked at, which count as this process's memory, until the next question."""
        if self._mapped:
            self._mapped.madvise(mmap.MADV_DONTNEED)

    def without(self, gone: Keys) -> Entries:
        """The entries but for those of some subjects; the file was proved as a whole."""
        kept: Any = slice(None) if not len(gone) else ~np.isin(self._arrays["subject_high"], gone)
        return of_part(self._arrays, kept)

    def subjects(self, keys: Keys) -> Keys:
        """Those of some keys (sorted) that are subjects here."""
        places, _ = self._places(keys)
        found = self._arrays["subject_high"][places]
        return np.unique(found[found == self._arrays["key"][places]])

    def snapshots_of(self, vms: Keys, since: Keys) -> Keys:
        """The snapshots of some VMs (sorted) that had not ended before the instant given with the VM."""
        places, wanted = self._places(vms)
        late = self._arrays["ended_at"][places] >= since[wanted]
        return np.unique(self._arrays["subject_high"][places[late]])

    def batches(self, subjects: Keys) -> set[int]:
        """The batches that brought events of some subjects (sorted)."""
        places, _ = self._places(subjects)
        return set(np.unique(self._arrays["batch"][places]).tolist()) - {0}

    def _places(self, keys: Keys) -> tuple[Places, Places]:
        """Where the entries of some keys are, and of which of the keys each is."""
        found: list[tuple[Places, Places]] = [(_NOWHERE, _NOWHERE)]
        likely = np.flatnonzero(self._filter.may_hold(keys.view(np.uint64)))
        for start, end, some in self._runs(keys[likely]):
            asked = likely[some]
            self._prove(start, end)
            known = self._arrays["key"][start * BLOCK : end * BLOCK]
            first = np.searchsorted(known, keys[asked], "left")
            count = np.searchsorted(known, keys[asked], "right") - first
            ends = np.cumsum(count)
            places = np.arange(ends[-1]) + np.repeat(first - (ends - count), count)
            found.append((places + start * BLOCK, np.repeat(asked, count)))
        places, wanted = zip(*found, strict=True)
        return np.concatenate(places), np.concatenate(wanted)

    def _runs(self, keys: Keys) -> Iterator[tuple[int, int, Places]]:
        """Neighbouring blocks in which keys can be: the first, the one after the last, and the places of the keys."""
        fences = self._blocks["first"]
        first = np.maximum(np.searchsorted(fences, keys, "left") - 1, 0)
        end = np.searchsorted(fences, keys, "right")
        asked = np.flatnonzero(first < end)
        if not len(asked):
            return
        first, end = first[asked], end[asked]
        gaps = np.flatnonzero(first[1:] > end[:-1]) + 1
        for some in np.split(np.arange(len(asked)), gaps):
            yield int(first[some[0]]), int(end[some[-1]]), asked[some]

    def _prove(self, start: int, end: int) -> None:
        for place in np.flatnonzero(~self._proved[start:end]) + start:
            if _digest(self._arrays, int(place)) != self._blocks["sha256"][place].tobytes():
                raise ValueError(f"block {place} of an index of what has ended was changed")
            self._proved[place] = True


def _mapped(path: Path) -> mmap.mmap | None:
    """A file's bytes, read where they are looked at; None of an empty one, which cannot be mapped."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else None


def _digest(columns: Entries, place: int) -> bytes:
    """The hash of a block of entries."""
    digest = sha256()
    for name in COLUMNS:
        digest.update(np.ascontiguousarray(columns[name][place * BLOCK : (place + 1) * BLOCK]).data)
    return digest.digest()


def filter_of(keys: Keys) -> Filter:
    """The filter of some keys."""
    made = Filter.of_power(max((len(keys) * BITS).bit_length(), 6))
    made.add(keys.view(np.uint64))
    return made


class Held(NamedTuple):
    """What the entries of a folder are about: how many subjects, and the first and the last end of one, if any."""

    subjects: int
    ended_from: int | None
    ended_until: int | None


def write_entries(folder: Path, entries: Entries) -> Held:
    """Write entries in the order of their keys: column after column, the hash of every block, and the filter."""
    order = np.argsort(entries["key"], kind="stable")
    ordered = of_part(entries, order)
    with (folder / ENTRIES).open("wb") as file:
        for name in COLUMNS:
            ordered[name].tofile(file)
    blocks = np.zeros(-(-len(order) // BLOCK), _BLOCK)
    blocks["first"] = ordered["key"][::BLOCK]
    for place in range(len(blocks)):
        blocks["sha256"][place] = np.frombuffer(_digest(ordered, place), np.uint8)
    blocks.tofile(folder / BLOCKS)
    filter_of(ordered["key"]).words.tofile(folder / FILTER)
    own = entries["batch"] > 0
    ends = entries["ended_at"][own]
    if not len(ends):
        return Held(0, None, None)
    # NumPy's own unique takes many times as long as sorting where there are millions.
    subjects = np.sort(entries["subject_high"][own])
    return Held(1 + int(np.count_nonzero(subjects[1:] != subjects[:-1])), int(ends.min()), int(ends.max()))


def of_part(entries: Entries, rows: Any) -> Entries:
    """Some of the entries."""
    return {name: array[rows] for name, array in entries.items()}


def merged_entries(members: Iterable[tuple[Index, Keys]]) -> Entries:
    """The entries of several folders together, each without the subjects that have moved on."""
    parts = [index.without(gone) for index, gone in members]
    return {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}


def ends_of(entries: Entries) -> tuple[Keys, Keys]:
    """Each subject, and when it had ended; the first end, where a snapshot and a VM share a key."""
    own = entries["batch"] > 0
    order = np.lexsort((entries["ended_at"][own], entries["subject_high"][own]))
    subjects, first = np.unique(entries["subject_high"][own][order], return_index=True)
    return subjects, entries["ended_at"][own][order][first]
