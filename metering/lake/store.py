"""The one door to the lake's files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from metering.errors import MeteringError
from metering.failpoints import failpoint
from metering.schema import arrow_schema

MANIFEST = "manifest.json"
PARQUET = {"compression": "zstd", "row_group_size": 122_880}


class File(msgspec.Struct, frozen=True):
    """An immutable file: its path below the lake, its rows, and the SHA-256 of its bytes."""

    path: str
    rows: int
    sha256: str


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """One committed ingest run."""

    batch: int
    ingested_at: int
    events: File | None = None
    quarantine: File | None = None
    duplicates: int = 0


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What counts: every committed batch, in order."""

    version: int = 1
    batches: list[Batch] = []

    @property
    def last_batch(self) -> int:
        """The number of the last batch, 0 before the first."""
        return self.batches[-1].batch if self.batches else 0


class Lake:
    """The files of one lake below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def manifest(self) -> Manifest:
        """The manifest as it is now; an empty one before the first commit."""
        path = self.root / MANIFEST
        try:
            return msgspec.json.decode(path.read_bytes(), type=Manifest)
        except FileNotFoundError:
            if any((self.root / "events").glob("*.parquet")):
                raise MeteringError(
                    f"{path} is missing, yet the lake holds event files.",
                    unchanged="Nothing was read or written.",
                    remedy="Restore the manifest from a backup.",
                ) from None
            return Manifest()
        except msgspec.DecodeError as error:
            raise MeteringError(
                f"{path} cannot be read: {error}.",
                unchanged="Nothing was read or written.",
                remedy="Restore the manifest from a backup.",
            ) from None

    def write(self, path: str, writer: Callable[[Path], None], rows: int) -> File:
        """Write an immutable file through `writer`, which is handed a temporary path; sync it and put it in place."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (self.root / MANIFEST).exists():
            # A lake that holds files without a manifest has lost it: so the manifest comes first.
            self._swap(self.manifest())
        part = target.with_name(f".{target.name}.part")
        writer(part)
        digest = _sync_and_hash(part)
        part.replace(target)
        _sync_folder(target.parent)
        return File(path=path, rows=rows, sha256=digest)

    def write_table(self, path: str, table: pa.Table) -> File:
        """Write an Arrow table as an immutable Parquet file."""
        return self.write(path, lambda part: pq.write_table(table, part, **PARQUET), table.num_rows)

    def commit(self, batch: Batch) -> None:
        """Make a batch's files count."""
        manifest = self.manifest()
        if batch.batch != manifest.last_batch + 1:
            raise MeteringError(
                f"Batch {batch.batch} does not follow batch {manifest.last_batch}.",
                unchanged="The lake is as it was.",
                remedy="Run the command again.",
            )
        failpoint("lake.before_commit")
        self._swap(Manifest(version=manifest.version, batches=[*manifest.batches, batch]))
        failpoint("lake.after_commit")

    def _swap(self, manifest: Manifest) -> None:
        part = self.root / f".{MANIFEST}.part"
        part.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
        _sync_and_hash(part)
        part.replace(self.root / MANIFEST)
        _sync_folder(self.root)

    def attach_events(self, con: duckdb.DuckDBPyConnection, name: str, after: int, through: int) -> int:
        """Define the events of the batches after one and through another as a relation; how many there are."""
        files = [b.events for b in self.manifest().batches if after < b.batch <= through and b.events is not None]
        if files:
            con.read_parquet([str(self.root / file.path) for file in files]).create_view(name, replace=True)
        else:
            con.from_arrow(arrow_schema("events").empty_table()).create_view(name, replace=True)
        return sum(file.rows for file in files)

    def attach(self, con: duckdb.DuckDBPyConnection, through: int | None = None) -> None:
        """Define the relations `events` and `quarantine` of all batches up to `through` (default: all)."""
        batches = [b for b in self.manifest().batches if through is None or b.batch <= through]
        for name in ("events", "quarantine"):
            present = [file for batch in batches if (file := getattr(batch, name)) is not None]
            paths = [str(self.root / file.path) for file in present]
            if paths:
                con.read_parquet(paths).create_view(name, replace=True)
            else:
                con.from_arrow(arrow_schema(name).empty_table()).create_view(name, replace=True)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_and_hash(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
