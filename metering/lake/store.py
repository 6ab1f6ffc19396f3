"""The one door to the lake's files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from metering.durable import sync
from metering.errors import MeteringError, UsageError
from metering.failpoints import failpoint
from metering.lake.duck import FEW, drop, every, give_files, view
from metering.lake.elsewhere import Compute, Parts, compute_elsewhere
from metering.lake.files import Changed, Claim, Files, Folder, sha256_of
from metering.lake.layout import FIRST_LAYOUT, LAYOUT, PARQUET, ROW_GROUP, write_events
from metering.schema import arrow_schema, empty_table
from metering.sql import sql

MANIFEST = "manifest.json"
FIRST, MERGING, JOINING = 1, 2, 3
"""Versions of the manifest: the second one names merged files, the third one joined or archived raw lines."""
VERSION = JOINING
"""The newest version that this engine reads."""
_RAW_BYTES = 2**22
FEW_EVENTS = 100_000


class File(msgspec.Struct, frozen=True, omit_defaults=True):
    """An immutable file: its path below the lake, its rows, the SHA-256 of its bytes, and the layout of events."""

    path: str
    rows: int
    sha256: str
    layout: int = FIRST_LAYOUT


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


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """A file with the raw lines of several batches, one batch's compressed file after the other's."""

    first: int
    last: int
    file: File
    batches: list[int]
    sizes: list[int]


class RawPlace(NamedTuple):
    """Where the raw lines of a batch are: a file, the first byte, and how many (None: all)."""

    file: File
    start: int
    size: int | None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What counts: every committed batch, in order, and where the rows of merged ones are now."""

    version: int = FIRST
    batches: list[Batch]
    merged: list[Merged] = []
    joined: list[Joined] = []
    archived: int = 0
    """The raw lines of batches up to this one lie outside of the lake; what proves them stays."""

    @property
    def needed_version(self) -> int:
        """The least version that reads this."""
        if self.joined or self.archived:
            return JOINING
        return MERGING if self.merged else FIRST

    @property
    def last_batch(self) -> int:
        """The number of the last batch, 0 before the first."""
        return self.batches[-1].batch if self.batches else 0

    def mark(self, number: int) -> str:
        """The hash of a batch's entry, which tells this history from any other; empty where there is no such batch."""
        if not 0 < number <= len(self.batches):
            return ""
        return hashlib.sha256(msgspec.json.encode(self.batches[number - 1])).hexdigest()

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
        return [*self.tables, *self.raw_files]

    @property
    def tables(self) -> list[File]:
        """The Parquet files among them."""
        held = [file for part in self.parts() for file in (part.events, part.quarantine)]
        return [file for file in held if file is not None]

    @property
    def raw_files(self) -> list[File]:
        """The files of raw lines among them."""
        return [file for file, _ in self.raw_parts()]

    @property
    def archived_files(self) -> list[File]:
        """Files of raw lines that need not be there; what comes back under such a name must be the same."""
        return [file for file, batches in self._raw_parts() if batches[-1].batch <= self.archived]

    def raw_parts(self) -> list[tuple[File, list[Batch]]]:
        """The files of raw lines that must be there, in order, each with its batches."""
        return [(file, batches) for file, batches in self._raw_parts() if batches[-1].batch > self.archived]

    def _raw_parts(self) -> list[tuple[File, list[Batch]]]:
        by_number = {batch.batch: batch for batch in self.batches}
        covered = {number for part in self.joined for number in part.batches}
        joined = [(part.file, [by_number[number] for number in part.batches]) for part in self.joined]
        single = [(batch.raw, [batch]) for batch in self.batches if batch.raw and batch.batch not in covered]
        return sorted((*joined, *single), key=lambda part: part[1][0].batch)

    def raw_places(self) -> dict[int, RawPlace]:
        """Where the raw lines of each batch are that has any."""
        places = {batch.batch: RawPlace(batch.raw, 0, None) for batch in self.batches if batch.raw}
        for part in self.joined:
            starts = accumulate(part.sizes, initial=0)
            for number, start, size in zip(part.batches, starts, part.sizes, strict=False):
                places[number] = RawPlace(part.file, start, size)
        return places


class Lake:
    """The files of one lake, wherever they lie, and what computes over them if the connection does not."""

    def __init__(self, files: Files | Path, compute: Compute | None = None) -> None:
        self.files = Folder(files) if isinstance(files, Path) else files
        self.root = self.files.root
        """The folder of this machine for caches and scratch; what else lies there is known by `path` and `at`."""
        self._compute = compute
        self._is_begun = False

    def manifest(self) -> Manifest:
        """The manifest as it is now; an empty one before the first commit."""
        return self._read()[0]

    def _read(self) -> tuple[Manifest, str | None]:
        """The manifest, and the tag of its file if there is one."""
        path = f"{self.files.url}/{MANIFEST}"
        found = self.files.read(MANIFEST)
        if found is None:
            if any(name.endswith(".parquet") for name in self.files.names("events/")):
                raise MeteringError(
                    f"{path} is missing, yet the lake holds event files.",
                    unchanged="Nothing was read or written.",
                    remedy="Restore the manifest from a backup.",
                )
            return Manifest(batches=[]), None
        try:
            return _readable(path, msgspec.json.decode(found.data, type=Manifest)), found.tag
        except msgspec.DecodeError as error:
            raise MeteringError(
                f"{path} cannot be read: {error}.",
                unchanged="Nothing was read or written.",
                remedy="Restore the manifest from a backup.",
            ) from None

    def path(self, file: File) -> Path:
        """Where a file that the manifest names can be read on this machine."""
        return self.at(file.path, file.sha256)

    def at(self, name: str, sha256: str = "") -> Path:
        """Where a file can be read on this machine; a path without a file where there is none."""
        return self.files.find(name, sha256) or self.root / name

    def write(self, path: str, writer: Callable[[Path], None], rows: int, layout: int = FIRST_LAYOUT) -> File:
        """Write an immutable file, which counts once the manifest names it; `writer` is handed a temporary path."""
        part, digest = self._written(path, writer)
        name = self.files.own_name(path, digest)
        self.files.add(part, name)
        return File(path=name, rows=rows, sha256=digest, layout=layout)

    def _written(self, path: str, writer: Callable[[Path], None]) -> tuple[Path, str]:
        """A temporary file, synced, and the SHA-256 of its bytes."""
        if not self._is_begun:
            # A lake that holds files without a manifest has lost it: so the manifest comes first.
            manifest, tag = self._read()
            if tag is None:
                self._swap(manifest, tag)
            self._is_begun = True
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        writer(part)
        sync(part)
        return part, sha256_of(part)

    def write_events(self, name: str, tables: Iterable[pa.Table], rows: int) -> File:
        """Write events, which are in the order of the layout, as an immutable file."""
        return self.write(f"events/{name}.parquet", lambda part: write_events(tables, part), rows, LAYOUT)

    def write_table(self, path: str, table: pa.Table) -> None:
        """Write an Arrow table as an immutable Parquet file that is known by its name."""
        part, _ = self._written(path, lambda part: pq.write_table(table, part, row_group_size=ROW_GROUP, **PARQUET))
        self.files.add(part, path)

    def commit(self, *batches: Batch) -> None:
        """Make a batch's files count; empty ones may follow it, so that their numbers are not given again."""
        manifest, tag = self._read()
        if batches[0].batch != manifest.last_batch + 1:
            raise MeteringError(
                f"Batch {batches[0].batch} does not follow batch {manifest.last_batch}.",
                unchanged="The lake is as it was.",
                remedy="Run the command again.",
            )
        failpoint("lake.before_commit")
        self._swap(msgspec.structs.replace(manifest, batches=[*manifest.batches, *batches]), tag)
        failpoint("lake.after_commit")

    def merge(self, merged: list[Merged], seen: Manifest) -> None:
        """Have these files count for the batches that they cover, in place of what counted in a manifest for them."""
        kept = [old for old in seen.merged if not any(new.first <= old.first <= new.last for new in merged)]
        parts = sorted((*kept, *merged), key=lambda part: part.first)
        failpoint("compact.before_swap")
        self._replace(seen, merged=parts)
        failpoint("compact.after_swap")

    def join(self, joined: list[Joined], seen: Manifest) -> None:
        """Have these files count for the raw lines of their batches."""
        kept = [old for old in seen.joined if not any(new.first <= old.first <= new.last for new in joined)]
        self._replace(seen, joined=sorted((*kept, *joined), key=lambda part: part.first))

    def archive(self, through: int, seen: Manifest) -> None:
        """Have the raw lines of batches up to one no longer be asked for here."""
        self._replace(seen, archived=through)

    def _replace(self, seen: Manifest, **changes: Any) -> None:
        """Change a manifest, unless it is another one by now."""
        manifest, tag = self._read()
        if manifest != seen:
            raise Changed(f"{self.files.url}/{MANIFEST}")
        self._swap(msgspec.structs.replace(manifest, **changes), tag)

    def _swap(self, manifest: Manifest, tag: str | None) -> None:
        manifest = msgspec.structs.replace(manifest, version=manifest.needed_version)
        self.files.replace(MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1), tag)

    def attach_events(
        self, con: duckdb.DuckDBPyConnection, name: str, after: int, through: int, cut: str | None = None
    ) -> None:
        """Define the events of the batches after one and through another as a relation, those that `cut` leaves."""
        self._between(con, name, "events", self.manifest(), after, through, cut)

    def attach(self, con: duckdb.DuckDBPyConnection, through: int | None = None) -> str | None:
        """Define the relations `events` and `quarantine` of all batches up to `through` (default: all).

        Gives a digest that tells these events from any others, if they are few.
        """
        manifest = self.manifest()
        last = manifest.last_batch if through is None else through
        for table in ("events", "quarantine"):
            self._between(con, table, table, manifest, 0, last)
        if sum(batch.events.rows for batch in manifest.batches if batch.events) > FEW_EVENTS:
            return None
        view(con, FEW, sql("lake", "few_events"))
        parts = manifest.parts(0, last)
        cut = last if any(part.last > last for part in parts) else None
        read = [cut, [part.events.sha256 for part in parts if part.events]]
        return hashlib.sha256(msgspec.json.encode(read)).hexdigest()

    def attach_usage(self, con: duckdb.DuckDBPyConnection, through: int | None = None) -> str | None:
        """Have usage computed over all batches up to `through`: by the connection, or by the engine of this lake.

        Then the connection has `quarantine` only, and no file of events is brought to this machine. Gives a digest
        of the events, if they are few and the connection computes.
        """
        if not self._compute:
            return self.attach(con, through)
        manifest = self.manifest()
        last = manifest.last_batch if through is None else through
        self._between(con, "quarantine", "quarantine", manifest, 0, last)
        compute_elsewhere(con, self._compute(self._parts(manifest, last)))
        return None

    def _parts(self, manifest: Manifest, last: int) -> Parts:
        parts = manifest.parts(0, last)
        return Parts(
            self.files.url,
            [part.events for part in parts if part.events],
            [part.quarantine for part in parts if part.quarantine],
            last if any(part.last > last for part in parts) else None,
        )

    @property
    def is_computed_elsewhere(self) -> bool:
        """Whether another engine than the connection computes usage."""
        return self._compute is not None

    def attach_batches(self, con: duckdb.DuckDBPyConnection, name: str, numbers: Collection[int]) -> None:
        """Define a relation of the events of some batches."""
        wanted = set(numbers)
        parts = [part for part in self.manifest().parts() if not wanted.isdisjoint(range(part.first, part.last + 1))]
        merged = any(part.first < part.last for part in parts)
        chosen = f"batch IN ({', '.join(map(str, sorted(wanted)))})" if merged else None
        self.define_rows(con, name, "events", parts, chosen)

    def raw_lines(self, batch: Batch, place: RawPlace | None = None) -> Iterator[pa.Table]:
        """The lines of a batch's events as they came, some at a time."""
        if batch.raw is None:
            return
        place = place or self.manifest().raw_places()[batch.batch]
        seq = 0
        path = self.path(place.file)
        size = path.stat().st_size if place.size is None else place.size
        with (
            pa.OSFile(str(path)) as file,
            pa.CompressedInputStream(file.get_stream(place.start, size), "zstd") as stream,
        ):
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

    def _between(
        self,
        con: duckdb.DuckDBPyConnection,
        name: str,
        table: str,
        manifest: Manifest,
        after: int,
        through: int,
        cut: str | None = None,
    ) -> None:
        """Define the rows of a table that some batches brought: after one and through another, and left by `cut`."""
        parts = manifest.parts(after, through)
        others = any(part.first <= after or part.last > through for part in parts)
        cuts = [f"batch > {after} AND batch <= {through}"] if others else []
        cuts += [cut] if cut else []
        self.define_rows(con, name, table, parts, " AND ".join(cuts) or None)

    def define_rows(
        self,
        con: duckdb.DuckDBPyConnection,
        name: str,
        table: str,
        parts: Iterable[Batch | Merged],
        cut: str | None = None,
    ) -> None:
        """Define the rows of a table that some parts hold as a relation, those that `cut` leaves."""
        files = [file for part in parts if (file := getattr(part, table)) is not None]
        if not files:
            drop(con, name, "VIEW")
            con.register(name, empty_table(table))
            return
        old = [file for file in files if table == "events" and file.layout == FIRST_LAYOUT]
        if not old:
            give_files(con, name, self._paths(files), cut)
            return
        give_files(con, f"{name}_unkeyed", self._paths(old), cut)
        rows = sql("lake", "keyed_events").replace("old_events", f"{name}_unkeyed")
        if new := [file for file in files if file.layout == LAYOUT]:
            columns = ", ".join(arrow_schema(table).names)
            give_files(con, f"{name}_keyed", self._paths(new), cut, columns)
            rows = f"{rows}\nUNION ALL\n{every(name + '_keyed')}"
        view(con, name, rows)

    def _paths(self, files: Iterable[File]) -> list[Path]:
        listed = list(files)
        self.files.bring((file.path, file.sha256) for file in listed)
        return [self.path(file) for file in listed]


def open_lake(url: str, home: Path, claim: Claim, compute: Compute | None = None) -> Lake:
    """The lake of a URL: a folder, relative to a home, or a bucket, whose copies lie in the home's `cache/`.

    `claim` holds a name among all runs on the ledger, where a store cannot keep them apart.
    """
    if not url.startswith("s3://"):
        return Lake(home / url, compute)
    from metering.lake.bucket import Bucket

    return Lake(Bucket(url, home / "cache" / url.removeprefix("s3://"), claim), compute)


def _readable(path: str, manifest: Manifest) -> Manifest:
    parts: list[Batch | Merged] = [*manifest.batches, *manifest.merged]
    layouts = (part.events.layout for part in parts if part.events)
    for name, found, known in (("version", manifest.version, VERSION), ("layout", max(layouts, default=0), LAYOUT)):
        if found > known:
            raise UsageError(
                f"{path} has {name} {found}; this engine knows {known}.",
                unchanged="Nothing was read or written.",
                remedy="Use the version of metering that wrote it.",
            )
    return manifest
