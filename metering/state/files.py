"""The files of the state: what `state.json` names counts, and everything else in its folder is refuse."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import duckdb
import msgspec
import pyarrow as pa

from metering.columns import side_by_side
from metering.durable import put, sync
from metering.lake import Lake
from metering.lake.files import sha256_of

FORMAT = 8
"""Of the files, and of what is computed into them."""
STATE = "state.json"
BROKEN = (duckdb.Error, pa.ArrowException, OSError, ValueError, KeyError)
"""What reading missing or damaged files of the state may raise."""
DIVIDED = "divided-0"
"""The folder in which new events wait where they are many."""
FORM = "COMPRESSION zstd, COMPRESSION_LEVEL 1"
"""Of the files: they are read and written often, and may be lost."""
COMPUTED = ("lifespans", "size_changes", "anomalies")
"""The relations that every folder holds rows of, each in a Parquet file."""


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """A folder of immutable files: a segment of what can still change (open), or of what has ended."""

    name: str
    segment: int
    is_open: bool
    subjects: int
    """How many snapshots and VMs are in it."""
    rows: dict[str, int]
    """Rows by relation."""
    sha256: dict[str, str]
    """By file name."""
    ended_from: int | None = None
    ended_until: int | None = None
    """The first and the last end of what is in one that has ended; None where it is empty."""
    superseded: int = 0
    """How many of its subjects have moved on; what they had here counts no more."""


class Side(msgspec.Struct, frozen=True):
    """A file beside the folders."""

    name: str
    sha256: str


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What the state holds: lifespans of all events through a batch, archived as far as they had ended by `now`."""

    format: int = FORMAT
    built: str
    """What tells a state that was built anew from the one before."""
    batch: int
    mark: str
    """Hash of that batch's entry in the manifest: of another lake's history the state knows nothing."""
    now: int
    next_number: int
    folders: list[Folder]
    superseded: Side
    """Names the (segment, subject) pairs that have moved on."""
    retractions: Side
    """Every retraction: it also counts for events that are still to come."""
    retired: list[str] = []
    """What the state before named and this one does not: a reader may still be at it."""
    seal: str = ""

    @property
    def sides(self) -> list[Side]:
        """The files beside the folders."""
        return [self.superseded, self.retractions]

    @property
    def names(self) -> set[str]:
        """Everything that this state reads."""
        return {folder.name for folder in self.folders} | {side.name for side in self.sides}


class Store:
    """The folder of the state."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.root = lake.root / "state"
        self._proved: set[Path] = set()

    def load(self) -> State | None:
        """The state; None where there is none that this version can read whole, or a cluster computes without it."""
        if self.lake.is_computed_elsewhere:
            return None
        try:
            state = self._read()
        except (OSError, ValueError):
            return None
        if state is None or state.mark != self.lake.manifest().mark(state.batch):
            return None
        return state if all(path.exists() for path, _ in self._files(state)) else None

    def _read(self) -> State | None:
        """The state as it is written; None where another version wrote it."""
        data = (self.root / STATE).read_bytes()
        if msgspec.json.decode(data, type=_Written).format != FORMAT:
            return None
        return unsealed(msgspec.json.decode(data, type=State))

    def why_unreadable(self) -> list[str]:
        """Why there is no state to be read, although one was written by this version; empty where there is none."""
        if self.lake.is_computed_elsewhere:
            return []
        try:
            state = self._read()
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            return [f"it cannot be read ({error})"]
        if state is None:
            return []
        missing = (path for path, _ in self._files(state) if not path.exists())
        return [f"{path.relative_to(self.root)} is missing" for path in missing]

    def _files(self, state: State) -> list[tuple[Path, str]]:
        """Every file that must be there, with its hash."""
        in_folders = [
            (self.root / folder.name / file, digest)
            for folder in state.folders
            for file, digest in folder.sha256.items()
        ]
        return in_folders + [(self.root / side.name, side.sha256) for side in state.sides]

    def path(self, folder: Folder, relation: str) -> Path:
        """A Parquet file of a folder."""
        return self.root / folder.name / f"{relation}.parquet"

    def paths(self, folders: Iterable[Folder], relation: str) -> list[Path]:
        """A relation's files in some folders, the largest first: by it the engine guesses how many rows all have."""
        ordered = sorted(folders, key=lambda folder: folder.rows[relation], reverse=True)
        return [self.path(folder, relation) for folder in ordered]

    def swap(self, state: State) -> None:
        """Make a state count."""
        put(self.root / STATE, msgspec.json.format(msgspec.json.encode(sealed(state)), indent=1), synced=True)

    def sweep(self, state: State | None) -> None:
        """Remove what neither the state nor the one before it names."""
        keep = state.names | set(state.retired) if state else set()
        for path in self.root.iterdir():
            if path.name.split("-")[0] in _KINDS and path.name not in keep:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def prove(self, folders: Iterable[Folder], *files: str, sides: Iterable[Side] = ()) -> None:
        """Raise ValueError unless some files of folders (none named: all), and some beside them, are as written.

        What a state or a bill is made of is proved before: damage must not get a new hash. Each file is once.
        """
        named = [(self.root / one.name / name, one.sha256[name]) for one in folders for name in files or one.sha256]
        named += [(self.root / side.name, side.sha256) for side in sides]
        asked = {path: digest for path, digest in named if path not in self._proved}
        for path, found in zip(asked, side_by_side(sha256_of, asked), strict=True):
            if found != asked[path]:
                raise ValueError(f"{path.relative_to(self.root)} was changed")
            self._proved.add(path)

    def damage(self, state: State) -> list[str]:
        """The files whose bytes are not those that were written."""
        changed = (path for path, digest in self._files(state) if sha256_of(path) != digest)
        return [f"state/{path.relative_to(self.root)}" for path in changed]

    def is_sound(self, state: State, since: int) -> bool:
        """Whether what usage since an instant is read from is what was written: the law for what is billed."""
        folders = [folder for folder in state.folders if folder.is_open or (folder.ended_until or since) > since]
        try:
            self.prove(folders, "lifespans.parquet", "size_changes.parquet", sides=[state.superseded])
        except (OSError, ValueError):
            return False
        return True


class _Written(msgspec.Struct):
    format: int = 0


Sealed = TypeVar("Sealed", bound=msgspec.Struct)
"""A record with a field `seal`."""


def sealed(record: Sealed) -> Sealed:
    """The record with a hash of all that it says."""
    said = msgspec.json.encode(msgspec.structs.replace(record, seal=""))
    return msgspec.structs.replace(record, seal=hashlib.sha256(said).hexdigest())


def unsealed(record: Sealed) -> Sealed:
    """The record, if it is as it was sealed; else ValueError."""
    if record != sealed(record):
        raise ValueError("it is not what was written")
    return record


_KINDS = ("open", "ended", "superseded", "retractions", "divided", "hot", "segment")
"""How the names of what lies in the folder begin; the last two are of an earlier format."""


def seal_folder(path: Path) -> dict[str, str]:
    """Sync every file of a folder, and the folder; their hashes by name."""
    found = {}
    for file in sorted(path.iterdir()):
        sync(file)
        found[file.name] = sha256_of(file)
    sync(path)
    sync(path.parent)
    return found
