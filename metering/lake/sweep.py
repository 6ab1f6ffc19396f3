"""What nothing needs any more: files that the manifest does not name, and what killed runs left behind.

Never touched: what the manifest names, the files of closes, the ledger's copy, what producers write, and whatever is
younger than the grace time, because a reader or a run may still be at it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from metering.errors import NeedsPerson
from metering.lake.store import Lake

COMMITTED = ("events", "quarantine", "raw")
"""Folders whose files count only if the manifest names them."""
SCRATCH = (".ingest.part", ".compact.part")
GRACE_HOURS = 24
HOUR = 3600 * 10**6


def unneeded(lake: Lake, home: Path, now: int, grace_hours: int, last_known: int) -> list[Path]:
    """The files and folders that can go, in the order of their names.

    `last_known` is the last batch that the ledger knows. Raises NeedsPerson where the manifest is older than that:
    then the files that it does not name may be the only ones that hold those events.
    """
    manifest = lake.manifest()
    if manifest.last_batch < last_known:
        raise NeedsPerson(
            f"The manifest ends with batch {manifest.last_batch}, but the ledger knows of batch {last_known}:"
            " it was put back from a backup.",
            unchanged="Nothing was removed.",
            remedy="Restore the lake with `metering restore BACKUP`, then run this again.",
        )
    before = now - grace_hours * HOUR
    return sorted(path for path in _candidates(lake, home) if _written(path) <= before)


def remove(path: Path) -> int:
    """Remove a file or folder; how many bytes it had."""
    size = _size(path)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return size


def _candidates(lake: Lake, home: Path) -> Iterator[Path]:
    manifest = lake.manifest()
    named = {lake.root / file.path for file in (*manifest.files, *manifest.archived_files)}
    for folder in COMMITTED:
        yield from (path for path in (lake.root / folder).glob("[!.]*") if path.is_file() and path not in named)
    scratch = [lake.root / name for name in SCRATCH]
    yield from (path for path in scratch if path.exists())
    for root in (lake.root, home / "metrics", home / "reports"):
        yield from (
            path for path in root.rglob(".*.part") if path.is_file() and not any(s in path.parents for s in scratch)
        )


def _written(path: Path) -> int:
    """When a file, or the newest file of a folder, was last written."""
    found = [path.stat().st_mtime_ns]
    if path.is_dir():
        found += [member.stat().st_mtime_ns for member in path.rglob("*")]
    return max(found) // 1000


def _size(path: Path) -> int:
    members = path.rglob("*") if path.is_dir() else [path]
    return sum(member.stat().st_size for member in members if member.is_file())
