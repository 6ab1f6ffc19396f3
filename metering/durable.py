"""What must outlive the machine, and files that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from metering.errors import unwritable


def sync(path: Path) -> None:
    """Have a file's content, or a folder's names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put(path: Path, content: bytes, *, synced: bool = False) -> None:
    """Have a file with this content in its place, in one step: readers see the old one or the new one.

    Several processes may do so at once. Only what is synced outlives the machine; a cache need not.
    """
    with _in_place_of(path) as part:
        part.write_bytes(content)
        if synced:
            sync(part)
    if synced:
        sync(path.parent)


@contextmanager
def _in_place_of(path: Path) -> Iterator[Path]:
    """Where to write what takes a file's place once it is whole; nothing is left of it where that fails."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Where to write what the user wants in a file: it is there when it is whole, in one step, with the old one's mode.

    A link stays one, and what is no file (a pipe, a device) is written into. Raises UsageError if that cannot be done.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            yield path
            return
        place = path.resolve()
        with _in_place_of(place) as part:
            yield part
            if place.is_file():
                shutil.copymode(place, part)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable(path, error) from None


def write_whole(path: Path, content: bytes) -> None:
    """Put a file where the user named it; see `written_whole`."""
    with written_whole(path) as place:
        place.write_bytes(content)
