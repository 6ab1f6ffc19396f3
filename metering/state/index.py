"""Finding what has ended by the key of a snapshot or a VM: sorted arrays, memory-mapped, in every folder of it.

A key is half of the one that the lake keeps beside a text, so it only filters: who is found without need is computed
again and comes out the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

COLUMNS = ("key", "subject_high", "ended_at", "batch")
"""One entry: a key and the subject that it leads to, which is itself, or a snapshot of that VM; when that ended; and
a batch that brought events of it, 0 in the entry of a VM."""

Keys = NDArray[np.int64]
NONE: Keys = np.empty(0, np.int64)


Entries = dict[str, Keys]
"""Entries as columns."""


class Index:
    """The entries of one folder."""

    def __init__(self, folder: Path) -> None:
        self._arrays: Entries = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in COLUMNS}

    def without(self, gone: Keys) -> Entries:
        """The entries but for those of some subjects."""
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

    def _places(self, keys: Keys) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Where the entries of some keys are, and of which of the keys each is."""
        known = self._arrays["key"]
        first = np.searchsorted(known, keys, "left")
        hit = np.flatnonzero(first < len(known))
        hit = hit[known[first[hit]] == keys[hit]]
        first = first[hit]
        count = np.searchsorted(known, keys[hit], "right") - first
        ends = np.cumsum(count)
        places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - (ends - count), count)
        return places, np.repeat(hit, count)


class Held(NamedTuple):
    """What the entries of a folder are about: how many subjects, and the first and the last end of one, if any."""

    subjects: int
    ended_from: int | None
    ended_until: int | None


def write_entries(folder: Path, entries: Entries) -> Held:
    """Write entries in the order of their keys."""
    order = np.argsort(entries["key"], kind="stable")
    for name in COLUMNS:
        np.save(folder / f"{name}.npy", entries[name][order])
    own = entries["batch"] > 0
    ends = entries["ended_at"][own]
    if not len(ends):
        return Held(0, None, None)
    return Held(len(np.unique(entries["subject_high"][own])), int(ends.min()), int(ends.max()))


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
