"""Merging many small files into few large ones, which changes nothing that anybody sees.

Rows keep the number of their batch, so that a question as of a batch still sees what it saw. The manifest keeps
every batch with the hash of the file that it was committed with: what a merged file must hold stays on record. The
old files stay until `gc` takes them, because readers may still be at them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from metering.errors import MeteringError
from metering.lake import raw
from metering.lake.duck import connect, every, give_files
from metering.lake.files import sha256_of
from metering.lake.layout import ROW_GROUP
from metering.lake.store import Batch, File, Lake, Manifest, Merged
from metering.schema import arrow_schema
from metering.sql import sql

TARGET_BYTES = 64 * 2**20
"""A merged file is not made larger than this, and files of half of it are left as they are."""
LEAST_PARTS = 16
"""Fewer neighbours than this are not worth a new file."""
NIGHTLY_PARTS = 64
"""So many small neighbours a night waits for before it merges them by itself."""
NIGHTLY_MOST = 512
"""So many files a night merges: what is more waits for the next, or for `metering compact`."""
SCRATCH = ".compact.part"
_ORDER = {"events": "type, time, batch, place, source, id", "quarantine": "batch, file, line, id"}


class Done(NamedTuple):
    """How many files became how many."""

    before: int
    after: int


def compact(
    lake: Lake,
    *,
    least: int = LEAST_PARTS,
    most: int | None = None,
    target: int = TARGET_BYTES,
    memory_limit: str | None = None,
    show: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> Done:
    """Merge runs of at least so many neighbouring small files, and of at most so many in all; the caller holds the
    run lock.

    Raises MeteringError, having changed nothing, where a file is not what the manifest says.
    """
    manifest = lake.manifest()
    scratch = lake.root / SCRATCH
    try:
        groups = list(_bounded(_groups(lake, manifest, target), least, most))
        total, done, merged = sum(map(len, groups)), 0, []
        for group in groups:
            show(done, total, f"batches {group[0].first} to {group[-1].last}")
            merged.append(_merge(lake, manifest, group, scratch, memory_limit))
            done += len(group)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if merged:
        lake.merge(merged, manifest)
    before, after = raw.join(lake, least, target)
    return Done(_count(manifest) + before, _count(lake.manifest()) + after)


def _count(manifest: Manifest) -> int:
    return sum(len(_files(part)) for part in manifest.parts())


def _groups(lake: Lake, manifest: Manifest, target: int) -> Iterator[list[Batch | Merged]]:
    """Runs of neighbours that fit into one file together."""
    group: list[Batch | Merged] = []
    size = 0
    for part in manifest.parts():
        own = sum(lake.path(file).stat().st_size for file in _files(part))
        if size + own > target or own > target // 2:
            yield group
            group, size = [], 0
        if own <= target // 2:
            group.append(part)
            size += own
    yield group


def _bounded(groups: Iterable[list[Batch | Merged]], least: int, most: int | None) -> Iterator[list[Batch | Merged]]:
    """The groups that are worth a new file, the earliest first, until there are enough."""
    left = most
    for group in groups:
        part = group[:left]
        if len(part) >= least:
            yield part
            left = None if left is None else left - len(part)


def _files(part: Batch | Merged) -> list[File]:
    return [file for file in (part.events, part.quarantine) if file is not None]


def _merge(
    lake: Lake, manifest: Manifest, group: Sequence[Batch | Merged], scratch: Path, memory_limit: str | None
) -> Merged:
    for file in (file for part in group for file in _files(part)):
        if sha256_of(lake.path(file)) != file.sha256:
            raise MeteringError(
                f"{file.path} was changed.",
                unchanged="Nothing was merged.",
                remedy="Run `metering verify`, and put the file back from a backup.",
            )
    first, last = group[0].first, group[-1].last
    merged = Merged(
        first=first,
        last=last,
        events=_write(lake, "events", group, scratch, memory_limit),
        quarantine=_write(lake, "quarantine", group, scratch, memory_limit),
    )
    for problem in unlike(lake, manifest, merged):
        raise MeteringError(f"{problem}.", unchanged="Nothing was merged.", remedy="Run `metering verify`.")
    return merged


def _write(
    lake: Lake, table: str, group: Sequence[Batch | Merged], scratch: Path, memory_limit: str | None
) -> File | None:
    files: list[File] = [file for part in group if (file := getattr(part, table)) is not None]
    if not files:
        return None
    rows = sum(file.rows for file in files)
    name = f"{group[0].first:08}-{group[-1].last:08}"
    with connect(memory_limit, scratch) as con:
        con.execute("SET preserve_insertion_order = true")
        lake.define_rows(con, "parts", table, group)
        columns = ", ".join(arrow_schema(table).names)
        ordered = con.sql(every("parts", columns, order=_ORDER[table]))
        if table == "events":
            schema = arrow_schema(table)
            batches = ordered.to_arrow_reader(ROW_GROUP)
            return lake.write_events(name, (pa.Table.from_batches([batch]).cast(schema) for batch in batches), rows)

        def copy(part: Path) -> None:
            ordered.write_parquet(str(part), compression="zstd", row_group_size=ROW_GROUP)

        return lake.write(f"{table}/{name}.parquet", copy, rows)


def unlike(lake: Lake, manifest: Manifest, merged: Merged) -> Iterator[str]:
    """Where merged files do not hold what the batches brought: rows of each batch, and of no other."""
    for table in ("events", "quarantine"):
        file: File | None = getattr(merged, table)
        wanted = {
            batch.batch: held.rows
            for batch in manifest.batches
            if merged.first <= batch.batch <= merged.last and (held := getattr(batch, table)) is not None
        }
        found: dict[int, int] = {}
        if file is not None:
            with connect() as con:
                give_files(con, "rows_of_file", [lake.path(file)])
                found = dict(con.execute(sql("lake", "rows_by_batch")).fetchall())
        if found != wanted:
            name = file.path if file else f"the {table} of batches {merged.first} to {merged.last}"
            yield f"{name} does not hold the rows of its batches"
