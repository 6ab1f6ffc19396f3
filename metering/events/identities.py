"""The index of identities: which keys the lake holds, and in which batch; a night pays for its events, not for history.

Sorted runs of keys (`identity_keys`) below `state/identities/`, memory-mapped. Every batch adds a run, and runs of
like size are merged, so that thousands of batches stay a handful of files. It is only a cache: written after the
commit, named for the batches that it covers, and made again from the events where it is missing, behind, or not of
this form. `metering verify` compares it with the events.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from metering.errors import MeteringError
from metering.events.keys import Keys, identity_keys
from metering.failpoints import failpoint
from metering.lake import Batch, Lake, Manifest, Merged

FOLDER = "state/identities"
_GROWTH = 4
"""A run is merged with the one before it unless that one is so many times larger."""
_ENTRY_BYTES = 12
_NAME = re.compile(r"v2-(\d{8})-(\d{8})-(\d+)-([0-9a-f]{16})\.run")

Numbers = npt.NDArray[np.uint32]


class Entries(NamedTuple):
    """Keys, sorted, and the batch of each."""

    keys: Keys
    batches: Numbers


class Brought(NamedTuple):
    """The keys of one batch's events, in any order."""

    batch: int
    keys: list[Keys]


@dataclass(frozen=True)
class _Run:
    """A file of the sorted keys of consecutive batches, followed by the batch of each.

    `mark` is that of the last batch: of another history, such as a lake's that was set back, it says nothing.
    """

    first: int
    last: int
    rows: int
    mark: str

    @property
    def name(self) -> str:
        return f"v2-{self.first:08}-{self.last:08}-{self.rows}-{self.mark}.run"


class Identities:
    """The index of one lake."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.folder = lake.root / FOLDER

    def catch_up(self, brought: Brought | None = None) -> None:
        """Bring the index up to the last committed batch; the caller holds the run lock.

        The keys of what a batch brought need not be had from its file where they are at hand.
        """
        manifest = self.lake.manifest()
        runs = self._sound(manifest)
        covered = runs[-1].last if runs else 0
        for part in manifest.parts(covered):
            first = max(part.first, covered + 1)
            if brought and first == part.last == brought.batch:
                entries = _of_batch(brought)
            else:
                entries = _sorted([_entries_of(self.lake, part, first, part.last)])
            runs.append(self._store(entries, first, part.last, _mark(manifest, part.last)))
            runs = self._merged(runs)
        kept = {run.name for run in runs}
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.name not in kept:
                    path.unlink()

    def open(self) -> list[Entries]:
        """The entries, run by run."""
        return [self._load(run) for run in self._sound(self.lake.manifest())]

    def batches_of(self, keys: Keys, through: int) -> set[int]:
        """The batches up to one that may hold some identities; those that the index does not cover are among them."""
        runs = self._sound(self.lake.manifest())
        found = set(range((runs[-1].last if runs else 0) + 1, through + 1))
        for run in runs:
            known, batches = self._load(run)
            first, last = np.searchsorted(known, keys, "left"), np.searchsorted(known, keys, "right")
            for start, end in zip(first[first < last], last[first < last], strict=True):
                found.update(batches[start:end].tolist())
        return {number for number in found if number <= through}

    def problems(self) -> Iterator[str]:
        """Where the index says something else than the events."""
        manifest = self.lake.manifest()
        for run in self._sound(manifest):
            parts = manifest.parts(run.first - 1, run.last)
            members = [_entries_of(self.lake, part, run.first, run.last) for part in parts]
            found, wanted = self._load(run), _sorted(members)
            if not (np.array_equal(found.keys, wanted.keys) and np.array_equal(found.batches, wanted.batches)):
                yield f"{FOLDER}/{run.name} is not what the events say; delete it, and the next run makes it again"

    def _sound(self, manifest: Manifest) -> list[_Run]:
        """The runs that cover the batches from 1 on without a gap, the longest of each start."""
        if not self.folder.is_dir():
            return []
        matches = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        found = [_Run(int(m[1]), int(m[2]), int(m[3]), m[4]) for m in matches if m]
        runs: list[_Run] = []
        for run in sorted(found, key=lambda run: (run.first, -run.last)):
            begins = run.first == (runs[-1].last if runs else 0) + 1
            if begins and run.mark == _mark(manifest, run.last) and self._has_size(run):
                runs.append(run)
        return runs

    def _has_size(self, run: _Run) -> bool:
        return (self.folder / run.name).stat().st_size == run.rows * _ENTRY_BYTES

    def _load(self, run: _Run) -> Entries:
        if not run.rows:
            return _NONE
        path = self.folder / run.name
        batches = np.memmap(path, np.uint32, "r", offset=run.rows * np.dtype(np.uint64).itemsize)
        return Entries(np.memmap(path, np.uint64, "r", shape=run.rows), batches)

    def _store(self, entries: Entries, first: int, last: int, mark: str) -> _Run:
        self.folder.mkdir(parents=True, exist_ok=True)
        run = _Run(first, last, len(entries.keys), mark)
        part = self.folder / f".{run.name}.part"
        with part.open("wb") as file:
            entries.keys.tofile(file)
            entries.batches.tofile(file)
        part.replace(self.folder / run.name)
        failpoint("identities.after_run")
        return run

    def _merged(self, runs: list[_Run]) -> list[_Run]:
        while len(runs) > 1 and runs[-2].rows < _GROWTH * runs[-1].rows:
            one, other = runs[-2:]
            both = _sorted([self._load(one), self._load(other)])
            runs = [*runs[:-2], self._store(both, one.first, other.last, other.mark)]
        return runs


_NONE = Entries(np.zeros(0, np.uint64), np.zeros(0, np.uint32))


def _mark(manifest: Manifest, batch: int) -> str:
    return manifest.mark(batch)[:16]


def _sorted(members: list[Entries]) -> Entries:
    keys, batches = (np.concatenate(column) for column in zip(*members, strict=True))
    order = np.lexsort((batches, keys))
    return Entries(keys[order], batches[order])


def _of_batch(brought: Brought) -> Entries:
    keys = np.sort(np.concatenate([_NONE.keys, *brought.keys]))
    return Entries(keys, np.full(len(keys), brought.batch, np.uint32))


def _entries_of(lake: Lake, part: Batch | Merged, first: int, last: int) -> Entries:
    """The keys of the events that some batches of a part brought, and the batch of each."""
    if part.events is None:
        return _NONE
    path = lake.path(part.events)
    keys, batches = [_NONE.keys], [_NONE.batches]
    try:
        with pq.ParquetFile(path) as file:
            for rows in file.iter_batches(columns=["batch", "source", "id"]):
                of = rows.column("batch").to_numpy()
                wanted = (of >= first) & (of <= last)
                keys.append(identity_keys(rows.column("source"), rows.column("id"))[wanted])
                batches.append(of[wanted].astype(np.uint32))
    except FileNotFoundError:
        raise MeteringError(
            f"{path} is missing: without it nobody can tell which events are repeats.",
            unchanged="The lake is as it was.",
            remedy="Restore the file from a backup.",
        ) from None
    return Entries(np.concatenate(keys), np.concatenate(batches))
