"""Where a lake's files lie: what every place can do, and a folder as such a place.

Files are immutable, but for the few that are replaced whole, the manifest first of all. What is read lies on this
machine: in the folder itself, or as a copy of what a store holds.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from metering.durable import put, sync
from metering.errors import MeteringError

Claim = Callable[[str], AbstractContextManager[bool]]
"""Holds a name among all runs on the ledger; False if another run holds it."""

CACHES = "state"
"""The folder of what can be made again; it always lies on this machine."""


class Changed(MeteringError):
    """A file is not the one that was read: somebody else has replaced it since."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} was replaced by another run meanwhile.",
            unchanged="Nothing is half-done: this run counts wholly or not at all.",
            remedy="Run the command again.",
        )


class Content(NamedTuple):
    """A file that is replaced whole: its bytes, and what tells them from any others."""

    data: bytes
    tag: str


class Item(NamedTuple):
    """A file of a listing: its name below the lake, its size, and when it was written, in microseconds."""

    name: str
    bytes: int
    written: int


class Refuse(NamedTuple):
    """What nothing needs: what it is called, its size, when it was written, and what removes it."""

    what: str
    bytes: int
    written: int
    remove: Callable[[], object]


class Ability(NamedTuple):
    """What a place can do, and a remedy where that is too little."""

    what: str
    remedy: str = ""


class Files(ABC):
    """The files of one lake by their names below it; caches and scratch lie below `root` whatever the place."""

    root: Path
    """The folder of this machine: the lake itself, or the copies of what is elsewhere."""
    url: str
    """What messages call the place."""
    workers = 1
    """How many files are best read or copied at once."""

    @abstractmethod
    def read(self, name: str) -> Content | None:
        """A file that may be replaced, as it is now; None where there is none."""

    @abstractmethod
    def replace(self, name: str, data: bytes, tag: str | None) -> None:
        """Replace a file as one step, if it still is the one with that tag (None: there was none).

        Raises Changed where it is another one.
        """

    @abstractmethod
    def add(self, part: Path, name: str) -> None:
        """Take in a file of this machine, synced, as an immutable one; it is there whole or not at all."""

    @abstractmethod
    def find(self, name: str, sha256: str = "") -> Path | None:
        """Where an immutable file can be read on this machine; None where there is no such file."""

    @abstractmethod
    def copy(self, name: str, path: Path) -> None:
        """Copy a file as it is kept to another place; FileNotFoundError where there is none."""

    @abstractmethod
    def digest(self, name: str) -> str | None:
        """The SHA-256 of a file as it is kept, not of a copy; None where there is none."""

    @abstractmethod
    def items(self, prefix: str = "", after: str = "") -> list[Item]:
        """The files whose names begin so and come after another, in order; without caches and unfinished files."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Take a file away."""

    @abstractmethod
    def alone(self, folder: str) -> AbstractContextManager[bool]:
        """Hold a folder among all runs that may add to it, waiting for it a while; False if another one holds on."""

    def names(self, prefix: str = "", after: str = "") -> list[str]:
        """The names that begin so and come after another, in order."""
        return [item.name for item in self.items(prefix, after)]

    def digests(self, names: Iterable[str]) -> dict[str, str | None]:
        """The digests of many files, as many at once as are best read so."""
        listed = list(names)
        with ThreadPoolExecutor(self.workers) as pool:
            return dict(zip(listed, pool.map(self.digest, listed), strict=True))

    def last(self, folder: str, suffix: str) -> str | None:
        """The last name of a folder that ends so."""
        return max((name for name in self.names(f"{folder}/") if name.endswith(suffix)), default=None)

    def own_name(self, name: str, sha256: str) -> str:
        """The name that a file of this content gets, where another run could be writing one of the same name."""
        return name

    def bring(self, files: Iterable[tuple[str, str]]) -> None:
        """Have files, each with its hash, on this machine: what must be copied is copied at once."""
        return

    def refuse(self) -> Iterator[Refuse]:
        """What killed runs left behind in the place itself, beside its files."""
        yield from ()

    def ability(self) -> Ability | None:
        """What the place was found to be able to do, tried anew; None where there is nothing to try."""
        return None


class Folder(Files):
    """A lake that is a folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)

    def read(self, name: str) -> Content | None:
        try:
            with (self.root / name).open("rb") as file:
                state = os.fstat(file.fileno())
                return Content(file.read(), f"{state.st_ino} {state.st_mtime_ns} {state.st_size}")
        except FileNotFoundError:
            return None

    def replace(self, name: str, data: bytes, tag: str | None) -> None:
        found = self.read(name)
        if (found.tag if found else None) != tag:
            raise Changed(f"{self.url}/{name}")
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, data, synced=True)

    def add(self, part: Path, name: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part.replace(path)
        sync(path.parent)

    def find(self, name: str, sha256: str = "") -> Path | None:
        path = self.root / name
        return path if path.exists() else None

    def copy(self, name: str, path: Path) -> None:
        shutil.copyfile(self.root / name, path)

    def digest(self, name: str) -> str | None:
        try:
            return sha256_of(self.root / name)
        except FileNotFoundError:
            return None

    def items(self, prefix: str = "", after: str = "") -> list[Item]:
        return list(_items(self.root, self.names(prefix, after)))

    def names(self, prefix: str = "", after: str = "") -> list[str]:
        return sorted(name for name in _below(self.root, prefix) if name > after)

    def remove(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    @contextmanager
    def alone(self, folder: str) -> Iterator[bool]:
        path = self.root / folder
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield True
        finally:
            os.close(descriptor)


def _below(root: Path, prefix: str) -> Iterator[str]:
    for folder, folders, files in os.walk(root / prefix.rpartition("/")[0]):
        here = Path(folder)
        folders[:] = [name for name in folders if name[0] != "." and not (here == root and name == CACHES)]
        below = "" if here == root else f"{here.relative_to(root).as_posix()}/"
        for name in (below + name for name in files if name[0] != "." and not name.endswith((".part", ".tmp"))):
            if name.startswith(prefix):
                yield name


def _items(root: Path, names: Iterable[str]) -> Iterator[Item]:
    for name in names:
        # Another run may have dropped it since it was listed.
        with suppress(FileNotFoundError):
            found = (root / name).stat()
            yield Item(name, found.st_size, found.st_mtime_ns // 1000)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
