"""What must outlive the machine, and files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from metering.errors import unwritable


def sync(path: Path) -> None:
    """Have a file's content, or a folder's names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that the user named: beside its place, then renamed. Raises UsageError if that cannot be done."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise unwritable(path, error) from None
