"""The index of identities: which keys the lake holds, and in which batch; a night pays for its events, not for history.

Sorted runs of keys (`identity_keys`) below `state/identities/`. Every batch adds a run, and runs of like size are
merged, so that thousands of batches stay a handful of files. It is only a cache: written after the commit, named for
the batches that it covers, proved where it is read, and made again from the events where it is missing, behind,
damaged, or not of this form. `metering verify` compares it with the events.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import gettempdir
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from metering.errors import MeteringError
from metering.events.keys import Keys, identity_keys
from metering.failpoints import failpoint
from metering.lake import Batch, Lake, Manifest, Merged
from metering.lake.entries import Damaged, Entries, ExternalSort, Kinds, RunWriter, SortedRun, Source, merged
from metering.lake.files import sha256_of

FOLDER = "state/identities"
KINDS: Kinds = {"key": np.uint64, "batch": np.uint32}
"""An entry: a key, and the batch that holds an identity of this key."""
_GROWTH = 4
"""A run is merged with the one before it unless that one is so many times larger."""
_NAME = re.compile(r"v3-(\d{8})-(\d{8})-(\d+)-([0-9a-f]{16})-([0-9a-f]{16})\.run")


class Brought(NamedTuple):
    """The entries of one batch's events, in sorted parts."""

    batch: int
    entries: Sequence[Source]


@dataclass(frozen=True)
class _Run:
    """The sorted entries of consecutive batches in a file, and beside it one that proves its blocks.

    `mark` is that of the last batch: of another history, such as a lake's that was set back, it says nothing. `proof`
    is what the other file hashes to.
    """

    first: int
    last: int
    rows: int
    mark: str
    proof: str

    @property
    def name(self) -> str:
        return f"v3-{self.first:08}-{self.last:08}-{self.rows}-{self.mark}-{self.proof}.run"

    @property
    def blocks(self) -> str:
        return f"{self.name}.blocks"


class Identities:
    """The index of one lake. What was changed raises Damaged where it is read; then the index is to be made again."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.folder = lake.root / FOLDER

    def catch_up(self, brought: Brought | None = None) -> None:
        """Bring the index up to the last committed batch; the caller holds the run lock.

        The keys of what a batch brought need not be had from its file where they are at hand.
        """
        try:
            self._catch_up(brought)
        except Damaged:
            self._forget()
            self._catch_up(brought)

    def _catch_up(self, brought: Brought | None) -> None:
        manifest = self.lake.manifest()
        runs = self._sound(manifest)
        covered = runs[-1].last if runs else 0
        for part in manifest.parts(covered):
            first = max(part.first, covered + 1)
            if brought and first == part.last == brought.batch:
                entries = brought.entries
            else:
                entries = _entries_of(self.lake, [part], first, part.last, self.folder)
            runs.append(self._store(entries, first, part.last, _mark(manifest, part.last)))
            runs = self._merged(runs)
        kept = {name for run in runs for name in (run.name, run.blocks)}
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.name not in kept:
                    path.unlink()

    def make_again(self) -> None:
        """Make the index from the events, whatever there is of it; the caller holds the run lock."""
        self._forget()
        self._catch_up(None)

    def _forget(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()

    def open(self) -> list[SortedRun]:
        """The entries, run by run."""
        return [self._load(run) for run in self._sound(self.lake.manifest())]

    def batches_of(self, keys: Keys, through: int) -> set[int]:
        """The batches up to one that may hold some identities: all of them where the index cannot say it."""
        runs = self._sound(self.lake.manifest())
        found = set(range((runs[-1].last if runs else 0) + 1, through + 1))
        for run in runs:
            try:
                found.update(self._load(run).find(np.sort(keys))[0]["batch"].tolist())
            except Damaged:
                found.update(range(run.first, run.last + 1))
        return {number for number in found if number <= through}

    def problems(self) -> Iterator[str]:
        """Where the index says something else than the events."""
        manifest = self.lake.manifest()
        for run in self._named(manifest):
            try:
                found = _digests(merged([self._load(run)], KINDS))
            except FileNotFoundError:
                continue  # The next run makes it again.
            except Damaged:
                found = {}
            parts = manifest.parts(run.first - 1, run.last)
            wanted = _entries_of(self.lake, parts, run.first, run.last, Path(gettempdir()))
            if found != _digests(merged(wanted, KINDS)):
                yield f"{FOLDER}/{run.name} is not what the events say; delete it, and the next run makes it again"

    def _sound(self, manifest: Manifest) -> list[_Run]:
        """The runs that cover the batches from 1 on without a gap, the longest of each start."""
        runs: list[_Run] = []
        for run in self._named(manifest):
            if run.first == (runs[-1].last if runs else 0) + 1 and self._is_whole(run):
                runs.append(run)
        return runs

    def _named(self, manifest: Manifest) -> list[_Run]:
        """The runs of this lake's history, by the names of their files: in order, the longest of each start first."""
        if not self.folder.is_dir():
            return []
        matches = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        found = [_Run(int(m[1]), int(m[2]), int(m[3]), m[4], m[5]) for m in matches if m]
        ours = [run for run in found if run.mark == _mark(manifest, run.last)]
        return sorted(ours, key=lambda run: (run.first, -run.last))

    def _is_whole(self, run: _Run) -> bool:
        try:
            return self._load(run).rows == run.rows
        except (OSError, Damaged):
            return False

    def _load(self, run: _Run) -> SortedRun:
        blocks = self.folder / run.blocks
        if not sha256_of(blocks).startswith(run.proof):
            raise Damaged(f"{run.blocks} was changed")
        return SortedRun(self.folder / run.name, blocks, KINDS)

    def _store(self, entries: Sequence[Source], first: int, last: int, mark: str) -> _Run:
        self.folder.mkdir(parents=True, exist_ok=True)
        part, blocks = self.folder / ".run.part", self.folder / ".blocks.part"
        writer = RunWriter(part, blocks, KINDS)
        for some in merged(entries, KINDS):
            writer.add(some)
        writer.close()
        run = _Run(first, last, writer.rows, mark, writer.proof[:16])
        blocks.replace(self.folder / run.blocks)
        part.replace(self.folder / run.name)
        failpoint("identities.after_run")
        return run

    def _merged(self, runs: list[_Run]) -> list[_Run]:
        while len(runs) > 1 and runs[-2].rows < _GROWTH * runs[-1].rows:
            one, other = runs[-2:]
            both = [self._load(one), self._load(other)]
            runs = [*runs[:-2], self._store(both, one.first, other.last, other.mark)]
        return runs


def _mark(manifest: Manifest, batch: int) -> str:
    return manifest.mark(batch)[:16]


def of_batch(keys: Keys, batch: int) -> Entries:
    """The entries of some of a batch's events."""
    return {"key": keys, "batch": np.full(len(keys), batch, np.uint32)}


def _entries_of(lake: Lake, parts: Sequence[Batch | Merged], first: int, last: int, scratch: Path) -> Sequence[Source]:
    """The entries of the events that some batches brought, which lie in some parts."""
    found = ExternalSort(scratch, KINDS)
    for path in (lake.path(part.events) for part in parts if part.events):
        try:
            with pq.ParquetFile(path) as file:
                for rows in file.iter_batches(columns=["batch", "source", "id"]):
                    of = rows.column("batch").to_numpy()
                    wanted = (of >= first) & (of <= last)
                    keys = identity_keys(rows.column("source"), rows.column("id"))
                    found.add({"key": keys[wanted], "batch": of[wanted].astype(np.uint32)})
        except FileNotFoundError:
            raise MeteringError(
                f"{path} is missing: without it nobody can tell which events are repeats.",
                unchanged="The lake is as it was.",
                remedy="Restore the file from a backup.",
            ) from None
    return found.sources()


def _digests(entries: Iterator[Entries]) -> dict[str, str]:
    """The hash of each column of entries by key and batch."""
    found = {name: sha256() for name in KINDS}
    for some in entries:
        order = np.lexsort((some["batch"], some["key"]))
        for name, digest in found.items():
            digest.update(some[name][order].data)
    return {name: digest.hexdigest() for name, digest in found.items()}
