"""Entries by key, however many there are: sorted, merged and looked up in bounded memory, proved where they are read.

A sorted run is two files. One holds blocks of entries by key, in each block one column after the other. The other one
holds of each block its first key, how many entries it has, and its hash; whoever opens a run proves that file before,
or knows its hash from elsewhere.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

BLOCK = 512
"""Entries that are proved together."""
AT_ONCE = 2**19
"""About how many entries are merged at once."""
ROOM = 2**21
"""Entries that are sorted in memory."""
_MOST_TOUCHED = 1024
"""Blocks that are looked at before their pages are given back: a look at one counts 64 KiB."""

Kinds = Mapping[str, type[np.generic]]
"""The columns of entries; `key` is one of them, and of 64 bits."""
Array = NDArray[Any]
Entries = Mapping[str, Array]
"""Entries as columns."""
Places = NDArray[np.intp]


class Damaged(ValueError):
    """A file of entries is not what was written."""


class Source(Protocol):
    """What gives entries by key."""

    @property
    def fences(self) -> Array:
        """Keys, sorted, between which there are about BLOCK entries each."""

    def between(self, start: int | None, stop: int | None) -> Entries:
        """The entries from one key up to another, by key."""

    def rest(self) -> None:
        """Give back the memory of what was read."""


class SortedRun:
    """Entries in files. The blocks that are asked for are proved; raises Damaged where one was changed."""

    def __init__(self, path: Path, blocks: Path, kinds: Kinds) -> None:
        self.path = path
        self._blocks = np.fromfile(blocks, _block(kinds))
        with path.open("rb") as file:
            self._mapped = _mapped(file.fileno()) if path.stat().st_size else None
        size = sum(BLOCK * np.dtype(kind).itemsize for kind in kinds.values())
        if len(self._mapped or b"") != len(self._blocks) * size:
            raise Damaged(f"{path.name} has another size than was written")
        self.rows = int(self._blocks["entries"].sum())
        self._bytes: NDArray[np.uint8] = np.frombuffer(self._mapped or b"", np.uint8).reshape(-1, size)
        self._columns: dict[str, Array] = {}
        offset = 0
        for name, kind in kinds.items():
            end = offset + BLOCK * np.dtype(kind).itemsize
            self._columns[name] = self._bytes[:, offset:end].view(kind)
            offset = end
        self._proved = np.zeros(len(self._blocks), np.bool_)
        self._touched = 0

    @property
    def fences(self) -> Array:
        """The first key of each block."""
        return self._blocks["first"]

    def rest(self) -> None:
        """Give back the pages that were looked at, which count as this process's memory, until the next question."""
        self._touched = 0
        if self._mapped:
            self._mapped.madvise(mmap.MADV_DONTNEED)

    def find(self, keys: Array) -> tuple[Entries, Places]:
        """The entries of some keys (sorted), and of which of the keys each is."""
        if not self.rows:
            return {name: column.reshape(-1) for name, column in self._columns.items()}, np.zeros(0, np.intp)
        blocks = [np.maximum(np.searchsorted(self.fences, keys, side) - 1, 0) for side in ("left", "right")]
        self._prove(np.concatenate(blocks))
        first, end = self._bound(keys, blocks[0], np.less), self._bound(keys, blocks[1], np.less_equal)
        hit = np.flatnonzero(end > first)
        count = (end - first)[hit]
        before = np.cumsum(count) - count
        places = np.arange(count.sum()) + np.repeat(first[hit] - before, count)
        self._prove(places // BLOCK)
        found = {name: column[places // BLOCK, places % BLOCK] for name, column in self._columns.items()}
        if self._touched > _MOST_TOUCHED:
            self.rest()
        return found, np.repeat(hit, count)

    def _bound(self, keys: Array, blocks: Places, goes_on: np.ufunc) -> Places:
        """In a block for each key, the place of the first entry of which its key is not before (or not at) that key."""
        low = blocks * BLOCK
        high = low + self._blocks["entries"][blocks]
        for _ in range(BLOCK.bit_length()):
            middle = np.minimum((low + high) // 2, len(self._blocks) * BLOCK - 1)
            further = goes_on(self._columns["key"][middle // BLOCK, middle % BLOCK], keys) & (low < high)
            low, high = np.where(further, middle + 1, low), np.where(further, high, middle)
        return low

    def between(self, start: int | None, stop: int | None) -> Entries:
        first = 0 if start is None else max(int(np.searchsorted(self.fences, _key(self.fences, start), "left")) - 1, 0)
        end = len(self._blocks) if stop is None else int(np.searchsorted(self.fences, _key(self.fences, stop), "left"))
        self._prove(np.arange(first, end))
        rows = int(self._blocks["entries"][first:end].sum())
        found = {name: column[first:end].reshape(-1)[:rows] for name, column in self._columns.items()}
        return _between(found, start, stop)

    def _prove(self, places: Places) -> None:
        asked = np.zeros(len(self._blocks), np.bool_)
        asked[places] = True
        self._touched += int(np.count_nonzero(asked))
        for place in np.flatnonzero(asked & ~self._proved).tolist():
            if sha256(self._bytes[place].data).digest() != self._blocks["sha256"][place].tobytes():
                raise Damaged(f"block {place} of {self.path.name} was changed")
            self._proved[place] = True


class Sorted:
    """Sorted entries in memory, or in a mapped file that nobody else can reach."""

    def __init__(self, entries: Entries, mapped: mmap.mmap | None = None) -> None:
        self.entries = entries
        self._mapped = mapped

    @property
    def fences(self) -> Array:
        return self.entries["key"][::BLOCK]

    def between(self, start: int | None, stop: int | None) -> Entries:
        return _between(self.entries, start, stop)

    def rest(self) -> None:
        if self._mapped:
            self._mapped.madvise(mmap.MADV_DONTNEED)


def _between(entries: Entries, start: int | None, stop: int | None) -> Entries:
    keys = entries["key"]
    first = None if start is None else np.searchsorted(keys, _key(keys, start))
    last = None if stop is None else np.searchsorted(keys, _key(keys, stop))
    return {name: column[first:last] for name, column in entries.items()}


def _key(keys: Array, value: int) -> Any:
    """A key of the same kind: a search for another one goes through all of them."""
    return keys.dtype.type(value)


class ExternalSort:
    """Takes in entries in any order, and gives them sorted: what does not fit into memory waits in unnamed files.

    They lie in a folder, and are gone with the process, however that ends.
    """

    def __init__(self, folder: Path, kinds: Kinds) -> None:
        self._folder = folder
        self._kinds = kinds
        self._waiting: list[Entries] = []
        self._rows = 0
        self._sorted: list[Source] = []

    def add(self, entries: Entries) -> None:
        """Take in entries."""
        self._waiting.append(entries)
        self._rows += len(entries["key"])
        if self._rows > ROOM:
            self._spill()

    def sources(self) -> list[Source]:
        """All that was taken in, in sorted parts."""
        return [*self._sorted, Sorted(_by_key(_joined(self._waiting, self._kinds)))]

    def _spill(self) -> None:
        entries = _by_key(_joined(self._waiting, self._kinds))
        self._waiting, self._rows = [], 0
        self._folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=self._folder) as file:
            for name in self._kinds:
                entries[name].tofile(file)
            file.flush()
            mapped = _mapped(file.fileno())
        offset, columns = 0, {}
        for name, kind in self._kinds.items():
            columns[name] = np.frombuffer(mapped, kind, len(entries["key"]), offset)
            offset += columns[name].nbytes
        self._sorted.append(Sorted(columns, mapped))


def merged(sources: Sequence[Source], kinds: Kinds) -> Iterator[Entries]:
    """The entries of all sources by key, about AT_ONCE at a time; those of one key together, as their sources are."""
    fences = np.sort(np.concatenate([np.zeros(0, kinds["key"]), *(source.fences for source in sources)]))
    every = AT_ONCE // BLOCK
    cuts = np.unique(fences[every::every]).tolist()
    for start, stop in pairwise([None, *cuts, None]):
        yield _by_key(_joined([source.between(start, stop) for source in sources], kinds))
        for source in sources:
            source.rest()


def _joined(parts: Sequence[Entries], kinds: Kinds) -> Entries:
    return {name: np.concatenate([np.zeros(0, kind), *(part[name] for part in parts)]) for name, kind in kinds.items()}


def _by_key(entries: Entries) -> Entries:
    order = np.argsort(entries["key"], kind="stable")
    return {name: column[order] for name, column in entries.items()}


class RunWriter:
    """Writes a sorted run: entries are added in their order, and the files are whole when it is closed, not synced."""

    def __init__(self, path: Path, blocks: Path, kinds: Kinds) -> None:
        self.rows = 0
        self.proof = ""
        """The hash of the file that proves the blocks, once it is written."""
        self._kinds = kinds
        self._to = blocks
        self._file = path.open("wb")
        self._rest = _joined([], kinds)
        self._blocks = [np.zeros(0, _block(kinds))]

    def add(self, entries: Entries) -> None:
        """Add entries, none of which is before what was added."""
        given = _joined([self._rest, entries], self._kinds)
        whole = len(given["key"]) // BLOCK * BLOCK
        self._write({name: column[:whole].reshape(-1, BLOCK) for name, column in given.items()}, BLOCK)
        self._rest = {name: column[whole:] for name, column in given.items()}

    def close(self) -> None:
        """Write what is left, which is no whole block, and what proves all."""
        if rows := len(self._rest["key"]):
            room = (0, BLOCK - rows)
            self._write({name: np.pad(column, room).reshape(1, BLOCK) for name, column in self._rest.items()}, rows)
        self._file.close()
        blocks = np.concatenate(self._blocks)
        blocks.tofile(self._to)
        self.proof = sha256(blocks.tobytes()).hexdigest()

    def _write(self, columns: Entries, rows: int) -> None:
        data = np.concatenate([column.view(np.uint8) for column in columns.values()], axis=1)
        blocks = np.zeros(len(data), _block(self._kinds))
        blocks["first"], blocks["entries"] = columns["key"][:, 0], rows
        for place, block in enumerate(data):
            blocks["sha256"][place] = np.frombuffer(sha256(block.data).digest(), np.uint8)
        data.tofile(self._file)
        self._blocks.append(blocks)
        self.rows += rows * len(data)


def _block(kinds: Kinds) -> np.dtype[np.void]:
    return np.dtype([("first", kinds["key"]), ("entries", np.int64), ("sha256", np.uint8, 32)])


def _mapped(file: int) -> mmap.mmap:
    """The bytes of a file that is not empty, read where they are looked at."""
    return mmap.mmap(file, 0, access=mmap.ACCESS_READ)
