"""Raw lines in few files, and those that nothing asks for any more outside of the lake.

A zstd file is a series of frames, so a joined file is the files of its batches one after the other: each of them keeps
its size and hash in the manifest, and is proved inside the joined one. Lines that are archived leave their hashes here;
a file that is put back under its name is proved by them. Metering, invoices and `explain` read events, never raw lines.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import msgspec

from metering.durable import sync
from metering.errors import MeteringError
from metering.failpoints import failpoint
from metering.lake.files import sha256_of
from metering.lake.store import Batch, File, Joined, Lake, Manifest, RawPlace
from metering.values import counted, to_datetime

_BLOCK = 2**20

Part = tuple[File, list[Batch]]
"""A file of raw lines, and the batches whose lines it holds."""


class Archived(NamedTuple):
    """How many files were moved, their bytes, and the last batch whose lines lie outside now."""

    files: int
    bytes: int
    through: int


def join(lake: Lake, least: int, target: int) -> tuple[int, int]:
    """Join runs of small neighbouring files, those of a month that is over even where they are few.

    How many files there were and are. No file spans two months (in UTC), so that `archive` finds whole ones.
    """
    manifest = lake.manifest()
    months = [list(parts) for _, parts in groupby(manifest.raw_parts(), key=_month)]
    joined = [
        _join(lake, manifest, group)
        for parts in months
        for group in _groups(lake, parts, target)
        if len(group) >= (least if parts is months[-1] else 2)
    ]
    if joined:
        lake.join(joined, manifest)
    return len(manifest.raw_files), len(lake.manifest().raw_files)


def _month(part: Part) -> tuple[int, int]:
    taken = to_datetime(part[1][-1].ingested_at)
    return taken.year, taken.month


def _groups(lake: Lake, parts: list[Part], target: int) -> Iterator[list[Part]]:
    group: list[Part] = []
    size = 0
    for file, batches in parts:
        own = lake.path(file).stat().st_size
        if size + own > target or own > target // 2:
            yield group
            group, size = [], 0
        if own <= target // 2:
            group.append((file, batches))
            size += own
    yield group


def _join(lake: Lake, manifest: Manifest, group: Sequence[Part]) -> Joined:
    batches = [batch for _, held in group for batch in held]
    sizes: list[int] = []
    places = manifest.raw_places()
    for batch in batches:
        found = places[batch.batch]
        path, start, size = lake.path(found.file), found.start, found.size
        sizes.append(path.stat().st_size if size is None else size)
        if batch.raw is None or _digest(path, start, sizes[-1]) != batch.raw.sha256:
            raise MeteringError(
                f"{found.file.path} does not hold the lines of batch {batch.batch}.",
                unchanged="Nothing was joined.",
                remedy="Run `metering verify`, and put the file back from a backup.",
            )

    def copy(part: Path) -> None:
        with part.open("wb") as target:
            for file, _ in group:
                with lake.path(file).open("rb") as source:
                    shutil.copyfileobj(source, target, _BLOCK)

    first, last = batches[0].batch, batches[-1].batch
    file = lake.write(f"raw/{first:08}-{last:08}.jsonl.zst", copy, sum(file.rows for file, _ in group))
    return Joined(first=first, last=last, file=file, batches=[b.batch for b in batches], sizes=sizes)


def archive(lake: Lake, before: int, folder: Path) -> Archived:
    """Move the raw lines of batches taken in before an instant to a folder; killed anywhere, run it again.

    A file that also holds later batches stays. Raises MeteringError where the folder has another file of that name.
    """
    manifest = lake.manifest()
    through = manifest.archived
    for _, batches in manifest.raw_parts():
        if batches[-1].ingested_at >= before:
            break
        through = batches[-1].batch
    gone = msgspec.structs.replace(manifest, archived=through).archived_files
    there = set(lake.files.names("raw/"))
    here = [file for file in gone if file.path in there]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in here:
        _copy(lake.path(file), folder / Path(file.path).name, file)
    failpoint("archive.before_swap")
    if through > manifest.archived:
        lake.archive(through, manifest)
    failpoint("archive.after_swap")
    size = sum(lake.path(file).stat().st_size for file in here)
    for file in here:
        lake.files.remove(file.path)
    return Archived(len(here), size, through)


def _copy(source: Path, target: Path, file: File) -> None:
    if target.exists():
        if sha256_of(target) == file.sha256:
            return
        raise MeteringError(
            f"{target} is another file than {file.path}.",
            unchanged="Nothing was removed from the lake.",
            remedy="Name another folder with --to.",
        )
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, part)
    part.chmod(0o600)
    if sha256_of(part) != file.sha256:
        part.unlink()
        raise MeteringError(
            f"{file.path} was changed.",
            unchanged="Nothing was removed from the lake.",
            remedy="Run `metering verify`, and put the file back from a backup.",
        )
    sync(part)
    part.replace(target)
    sync(target.parent)


def problems(lake: Lake, manifest: Manifest) -> Iterator[str]:
    """Where raw lines are missing or are not those of their batches; archived ones are proved where they came back."""
    for batch in manifest.batches:
        if (batch.events.rows if batch.events else 0) != (batch.raw.rows if batch.raw else 0):
            yield f"batch {batch.batch} has not one raw line for each event"
    files = (*manifest.raw_files, *manifest.archived_files)
    digests = lake.files.digests(file.path for file in files)
    for file in files:
        digest = digests[file.path]
        if digest is not None and digest != file.sha256:
            yield f"{file.path} was changed"
        elif digest is None and file in manifest.raw_files:
            yield f"{file.path} is missing"
    places = manifest.raw_places()
    for batch in manifest.batches:
        if batch.raw and digests.get(places[batch.batch].file.path):
            yield from _of_batch(lake, batch, batch.raw, places[batch.batch])


def _of_batch(lake: Lake, batch: Batch, raw: File, found: RawPlace) -> Iterator[str]:
    if found.size is not None and _digest(lake.path(found.file), found.start, found.size) != raw.sha256:
        yield f"{found.file.path} does not hold the lines of batch {batch.batch}"
    elif (rows := sum(lines.num_rows for lines in lake.raw_lines(batch, found))) != raw.rows:
        yield f"{found.file.path} has {counted(rows, 'row')} of batch {batch.batch} instead of {raw.rows}"


def _digest(path: Path, start: int, size: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while size and (block := file.read(min(size, _BLOCK))):
            digest.update(block)
            size -= len(block)
    return digest.hexdigest() if size == 0 else ""
