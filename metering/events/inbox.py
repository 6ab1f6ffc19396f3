"""The inbox: files are taken in one run, and moved to `done/` once the lake holds what they say."""

from __future__ import annotations

import os
from pathlib import Path

from metering.durable import sync
from metering.events.ingest import IngestResult, Progress, ingest
from metering.events.sources import DONE, EXTENSIONS, Source, strangers, waiting
from metering.failpoints import failpoint
from metering.lake import Lake
from metering.values import printable

MOST_NAME_BYTES = 255

_Stamp = tuple[int, int, int]


def take_inbox(
    lake: Lake,
    inbox: Path,
    now: int,
    *,
    progress: Progress | None = None,
    memory_limit: str | None = None,
) -> IngestResult:
    """Ingest what waits in the inbox, then move it to `done/`; the caller holds the run lock.

    A file that cannot be read stays, and so does one that was written to or replaced meanwhile: the next run
    takes it. Killed between the commit and the last move, the next run finds every event known, and moves the
    rest.
    """
    there = waiting(inbox)
    files = {path: _stamp(path) for path in there if not path.is_symlink()}
    sources = [Source(printable(path.name), path) for path in files]
    result = ingest(lake, sources, now, progress=progress, memory_limit=memory_limit)
    result.unreadable += [
        f"{printable(path)}: it is a link, which may lead anywhere; `metering ingest` takes it if you name it"
        for path in there
        if path not in files
    ]
    failpoint("inbox.before_move")
    for source in result.read:
        path = source.path
        if path is not None and (stamp := files[path]) is not None and _stamp(path) == stamp:
            result.moved.append(_move(path, inbox / DONE).name)
            failpoint("inbox.during_move")
    if result.moved:
        sync(inbox / DONE)
        sync(inbox)
    result.ignored = strangers(inbox)
    return result


def _stamp(path: Path) -> _Stamp | None:
    """What changes when a file is replaced or written to."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


def _move(path: Path, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    extension = max((each for each in EXTENSIONS if path.name.lower().endswith(each)), key=len)
    stem, suffix = printable(path.name[: -len(extension)]), path.name[-len(extension) :]
    target = folder / _fitting(stem, suffix)
    number = 2
    while os.path.lexists(target):
        target = folder / _fitting(stem, f".{number}{suffix}")
        number += 1
    path.rename(target)
    return target


def _fitting(stem: str, suffix: str) -> str:
    """A name that a file can have, its stem cut where it must be."""
    room = MOST_NAME_BYTES - len(suffix.encode())
    return stem.encode()[:room].decode("utf-8", "ignore") + suffix
