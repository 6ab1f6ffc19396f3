"""The files of the state: what `state.json` names counts, and everything else in its folder is refuse."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa

from metering.durable import sync
from metering.lake import Lake
from metering.lake.files import sha256_of

FORMAT = 2
"""Of the files, and of the events in them."""
STATE = "state.json"
BROKEN = (duckdb.Error, pa.ArrowException, OSError, ValueError, KeyError)
"""What reading missing or damaged files of the state may raise."""
PARTS = ("lifespans", "size_changes", "anomalies", "events")
"""The Parquet files of every folder, hot or archived."""


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """A folder of immutable files: the hot one (segment 0), or one segment of the archive."""

    name: str
    segment: int = 0
    rows: dict[str, int]
    """Rows by part; an index has entries."""
    sha256: dict[str, str]
    """By file name."""
    ended_until: int | None = None
    """The latest end of a lifespan in it; None where it holds none."""
    superseded: int = 0
    """How many of its owners have moved on; what they had here counts no more."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What the state holds: lifespans of all events through a batch, archived as far as they had ended by `now`."""

    format: int = FORMAT
    engine: str
    built: str
    """What tells a state that was built anew from the one before."""
    batch: int
    mark: str
    """Hash of that batch's entry in the manifest: of another lake's history the state knows nothing."""
    now: int
    next_number: int
    hot: Folder
    segments: list[Folder]
    superseded: str | None = None
    """The file that names the superseded (segment, owner) pairs."""
    superseded_sha256: str | None = None
    retired: list[str] = []
    """What the state before named and this one does not: a reader may still be at it."""

    @property
    def names(self) -> set[str]:
        """Everything that this state reads."""
        return {self.hot.name, *(folder.name for folder in self.segments)} | (
            {self.superseded} if self.superseded else set()
        )


class Store:
    """The folder of the state."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.root = lake.root / "state"

    def load(self) -> State | None:
        """The state; None where there is none that this version can read whole, or a cluster computes without it."""
        if self.lake.is_computed_elsewhere:
            return None
        try:
            state = msgspec.json.decode((self.root / STATE).read_bytes(), type=State)
        except (OSError, msgspec.MsgspecError):
            return None
        if (state.format, state.engine) != (FORMAT, duckdb.__version__):
            return None
        if state.mark != self.lake.manifest().mark(state.batch):
            return None
        return state if all(path.exists() for path in self._files(state)) else None

    def why_unreadable(self) -> list[str]:
        """Why there is no state to be read, although one was written by this version; empty where there is none."""
        if self.lake.is_computed_elsewhere:
            return []
        try:
            state = msgspec.json.decode((self.root / STATE).read_bytes(), type=State)
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError) as error:
            return [f"it cannot be read ({error})"]
        return [f"{path.name} of {path.parent.name} is missing" for path in self._files(state) if not path.exists()]

    def _files(self, state: State) -> list[Path]:
        found = [self.root / folder.name / file for folder in (state.hot, *state.segments) for file in folder.sha256]
        return found + ([self.root / state.superseded] if state.superseded else [])

    def path(self, folder: Folder, part: str) -> Path:
        """A Parquet file of a folder."""
        return self.root / folder.name / f"{part}.parquet"

    def swap(self, state: State) -> None:
        """Make a state count."""
        part = self.root / f".{STATE}.part"
        part.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=1))
        sync(part)
        part.replace(self.root / STATE)
        sync(self.root)

    def sweep(self, state: State | None) -> None:
        """Remove what neither the state nor the one before it names."""
        keep = state.names | set(state.retired) if state else set()
        for path in self.root.iterdir():
            if path.name.split("-")[0] in ("hot", "segment", "superseded") and path.name not in keep:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def damage(self, state: State) -> list[str]:
        """The files whose bytes are not those that were written."""
        path = state.superseded
        side = [f"state/{path}"] if path and sha256_of(self.root / path) != state.superseded_sha256 else []
        return side + [
            f"state/{folder.name}/{file}"
            for folder in (state.hot, *state.segments)
            for file, digest in folder.sha256.items()
            if sha256_of(self.root / folder.name / file) != digest
        ]

    def is_sound(self, state: State, since: int) -> bool:
        """Whether what usage since an instant is read from is what was written: the law for what is billed."""
        return all(
            sha256_of(self.path(folder, part)) == folder.sha256[f"{part}.parquet"]
            for folder in (state.hot, *state.segments)
            if folder.segment == 0 or (folder.ended_until or since) > since
            for part in ("lifespans", "size_changes")
        ) and (state.superseded is None or sha256_of(self.root / state.superseded) == state.superseded_sha256)


def seal_folder(path: Path) -> dict[str, str]:
    """Sync every file of a folder, and the folder; their hashes by name."""
    found = {}
    for file in sorted(path.iterdir()):
        sync(file)
        found[file.name] = sha256_of(file)
    sync(path)
    sync(path.parent)
    return found
