"""The one door to the lake's files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from metering.errors import MeteringError, UsageError
from metering.failpoints import failpoint
from metering.lake.elsewhere import Compute, Parts, compute_elsewhere
from metering.schema import arrow_schema

MANIFEST = "manifest.json"
FIRST, MERGING = 1, 2
"""Versions of the manifest: the second one names merged files."""
VERSION = MERGING
"""The newest version that this engine reads."""
_RAW_BYTES = 2**22
PARQUET = {"compression": "zstd"}
ROW_GROUP = 122_880
"""Rows of a row group."""


class File(msgspec.Struct, frozen=True):
    """An immutable file: its path below the lake, its rows, and the SHA-256 of its bytes."""

    path: str
    rows: int
    sha256: str


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """One committed ingest run; `raw` has the lines of its events, in zstd."""

    batch: int
    ingested_at: int
    events: File | None = None
    raw: File | None = None
    quarantine: File | None = None
    duplicates: int = 0

    @property
    def first(self) -> int:
        """A batch is a part of the lake by itself, until it is merged with others."""
        return self.batch

    @property
    def last(self) -> int:
        """The same."""
        return self.batch


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """The files that hold the rows of consecutive batches; each batch keeps the hash of the file that it came in."""

    first: int
    last: int
    events: File | None = None
    quarantine: File | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What counts: every committed batch, in order, and where the rows of merged ones are now."""

    version: int = FIRST
    batches: list[Batch] = []
    merged: list[Merged] = []

    @property
    def last_batch(self) -> int:
        """The number of the last batch, 0 before the first."""
        return self.batches[-1].batch if self.batches else 0

    def parts(self, after: int = 0, through: int | None = None) -> list[Batch | Merged]:
        """What holds the rows of the batches after one and through another; a merged part may hold others."""
        last = self.last_batch if through is None else through
        merged = [part for part in self.merged if part.first <= last and part.last > after]
        covered = {number for part in merged for number in range(part.first, part.last + 1)}
        single = [batch for batch in self.batches if after < batch.batch <= last and batch.batch not in covered]
        return sorted((*merged, *single), key=lambda part: part.first)

    @property
    def files(self) -> list[File]:
        """Every file that must be there."""
        held = [file for part in self.parts() for file in (part.events, part.quarantine)]
        return [file for file in (*held, *(batch.raw for batch in self.batches)) if file is not None]


class Lake:
    """The files of one lake below a folder, and what computes over them if the connection does not."""

    def __init__(self, root: Path, compute: Compute | None = None) -> None:
        self.root = root
        self._compute = compute

    def manifest(self) -> Manifest:
        """The manifest as it is now; an empty one before the first commit."""
        path = self.root / MANIFEST
        try:
            return _readable(path, msgspec.json.decode(path.read_bytes(), type=Manifest))
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
        return self.write(
            path, lambda part: pq.write_table(table, part, row_group_size=ROW_GROUP, **PARQUET), table.num_rows
        )

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
        self._swap(msgspec.structs.replace(manifest, batches=[*manifest.batches, batch]))
        failpoint("lake.after_commit")

    def merge(self, merged: list[Merged]) -> None:
        """Have these files count for the batches that they cover, in place of what counted for them."""
        manifest = self.manifest()
        kept = [old for old in manifest.merged if not any(new.first <= old.first <= new.last for new in merged)]
        parts = sorted((*kept, *merged), key=lambda part: part.first)
        failpoint("compact.before_swap")
        self._swap(msgspec.structs.replace(manifest, version=MERGING, merged=parts))
        failpoint("compact.after_swap")

    def _swap(self, manifest: Manifest) -> None:
        part = self.root / f".{MANIFEST}.part"
        part.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
        _sync_and_hash(part)
        part.replace(self.root / MANIFEST)
        _sync_folder(self.root)

    def attach(self, con: duckdb.DuckDBPyConnection, through: int | None = None) -> None:
        """Define the relations `events` and `quarantine` of all batches up to `through` (default: all)."""
        manifest = self.manifest()
        last = manifest.last_batch if through is None else through
        parts = manifest.parts(0, last)
        cut = f"batch <= {last}" if any(part.last > last for part in parts) else None
        self._view(con, "events", "events", parts, cut)
        self._view(con, "quarantine", "quarantine", parts, cut)
        if self._compute:
            compute_elsewhere(con, self._compute(self._parts(parts, last)))

    def _parts(self, parts: Sequence[Batch | Merged], last: int) -> Parts:
        return Parts(
            self.root,
            [part.events for part in parts if part.events],
            [part.quarantine for part in parts if part.quarantine],
            last if any(part.last > last for part in parts) else None,
        )

    def attach_batches(self, con: duckdb.DuckDBPyConnection, name: str, numbers: Collection[int]) -> None:
        """Define a relation of the events of some batches."""
        wanted = set(numbers)
        parts = [part for part in self.manifest().parts() if not wanted.isdisjoint(range(part.first, part.last + 1))]
        merged = any(part.first < part.last for part in parts)
        chosen = f"batch IN ({', '.join(map(str, sorted(wanted)))})" if merged else None
        self._view(con, name, "events", parts, chosen)

    def attach_raw(self, con: duckdb.DuckDBPyConnection, numbers: Collection[int]) -> None:
        """Define the relation `raw`: the lines of the events of some batches, as they came."""
        batches = [batch for batch in self.manifest().batches if batch.batch in numbers and batch.raw]
        schema = arrow_schema("raw")
        con.register("raw_given", schema.empty_table())
        con.execute("CREATE OR REPLACE TEMP TABLE raw AS FROM raw_given")
        for batch in batches:
            for rows in self.raw_lines(batch):
                con.register("raw_given", rows)
                con.execute("INSERT INTO raw FROM raw_given")
        con.unregister("raw_given")

    def raw_lines(self, batch: Batch) -> Iterator[pa.Table]:
        """The lines of a batch's events as they came, some at a time."""
        if batch.raw is None:
            return
        seq = 0
        with pa.OSFile(str(self.root / batch.raw.path)) as file, pa.CompressedInputStream(file, "zstd") as stream:
            rest = b""
            while block := stream.read(_RAW_BYTES):
                *lines, rest = (rest + block).split(b"\n")
                numbers = range(seq + 1, seq + 1 + len(lines))
                seq += len(lines)
                columns = [
                    pa.repeat(batch.batch, len(lines)),
                    pa.array(numbers, pa.int64()),
                    pa.array(lines, pa.string()),
                ]
                yield pa.Table.from_arrays(columns, schema=arrow_schema("raw"))

    def _view(
        self, con: duckdb.DuckDBPyConnection, name: str, table: str, parts: Iterable[Batch | Merged], cut: str | None
    ) -> None:
        """Define the rows of a table that some parts hold, without those of other batches."""
        paths = [str(self.root / file.path) for part in parts if (file := getattr(part, table)) is not None]
        if not paths:
            con.from_arrow(arrow_schema(table).empty_table()).create_view(name, replace=True)
            return
        rows = con.read_parquet(paths)
        (rows.filter(cut) if cut else rows).create_view(name, replace=True)


def _readable(path: Path, manifest: Manifest) -> Manifest:
    if manifest.version > VERSION:
        raise UsageError(
            f"{path} has version {manifest.version}; this engine knows {VERSION}.",
            unchanged="Nothing was read or written.",
            remedy="Use the version of metering that wrote it.",
        )
    return manifest


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
