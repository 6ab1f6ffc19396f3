"""What nothing needs any more: files that the manifest does not name, and what killed runs left behind.

Never touched: what the manifest names, the files of closes, the ledger's copy, what producers write, and whatever is
younger than the grace time, because a reader or a run may still be at it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from metering.errors import NeedsPerson
from metering.lake.files import Refuse
from metering.lake.store import Lake

COMMITTED = ("events", "quarantine", "raw")
"""Folders whose files count only if the manifest names them."""
SCRATCH = (".ingest.part", ".compact.part", ".fetched.part")
HOUR = 3600 * 10**6


def unneeded(lake: Lake, home: Path, now: int, grace_hours: int, last_known: int) -> list[Refuse]:
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
    found = {refuse.what: refuse for refuse in (*_elsewhere(lake), *_here(lake, home))}
    return sorted(refuse for refuse in found.values() if refuse.written <= before)


def _named(lake: Lake) -> set[str]:
    manifest = lake.manifest()
    return {file.path for file in (*manifest.files, *manifest.archived_files)}


def _elsewhere(lake: Lake) -> Iterator[Refuse]:
    """What lies in the lake's place, which may be this machine or not."""
    named = _named(lake)
    for folder in COMMITTED:
        for item in lake.files.items(f"{folder}/"):
            if item.name not in named:
                what = f"{lake.files.url}/{item.name}"
                yield Refuse(what, item.bytes, item.written, partial(lake.files.remove, item.name))
    yield from lake.files.refuse()


def _here(lake: Lake, home: Path) -> Iterator[Refuse]:
    """What lies on this machine: files and copies, scratch and temporary files."""
    named = {lake.root / name for name in _named(lake)}
    for folder in COMMITTED:
        paths = (path for path in (lake.root / folder).glob("[!.]*") if path.is_file() and path not in named)
        yield from map(_refuse, paths)
    scratch = [lake.root / name for name in SCRATCH]
    yield from (_refuse(path) for path in scratch if path.exists())
    for root in (lake.root, home / "metrics", home / "reports"):
        for path in root.rglob(".*.part"):
            if path.is_file() and not any(folder in path.parents for folder in scratch):
                yield _refuse(path)


def _refuse(path: Path) -> Refuse:
    """A file or a folder of this machine, written when the newest file in it was."""
    members = [path, *path.rglob("*")] if path.is_dir() else [path]
    states = [member.stat() for member in members]
    size = sum(state.st_size for state, member in zip(states, members, strict=True) if member.is_file())
    written = max(state.st_mtime_ns for state in states) // 1000
    return Refuse(str(path), size, written, partial(_remove, path))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
