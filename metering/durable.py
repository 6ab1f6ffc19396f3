"""What must outlive the machine, and files that are there whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
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
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        if synced:
            sync(part)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise
    if synced:
        sync(path.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Put a file where the user named it; a link stays one, and what is no file (a pipe, a device) is written into.

    Raises UsageError if that cannot be done.
    """
    try:
        place = path.resolve()
        if place.exists() and not (place.is_file() or place.is_dir()):
            place.write_bytes(content)
        else:
            put(place, content)
    except OSError as error:
        raise unwritable(path, error) from None
