"""Proving a backup: a folder, or one file that is unpacked in bounded memory and disk.

A backup holds the files that its manifest names, each with its size and hash, and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

import msgspec
import pyarrow as pa

from metering.events.sources import FREE_BYTES, MOST_TIMES
from metering.lake.files import sha256_of
from metering.recovery.backup import MANIFEST, MOST_MANIFEST_BYTES, VERSION, Entry, Manifest, compressed, files_of

Show = Callable[[int, int, str], None]

_HEADER_BYTES = 2**16
"""What may stand between two files: headers, and the names that do not fit into them."""
_BLOCK_BYTES = 10 * tarfile.BLOCKSIZE
_COPY_BYTES = 2**20


class NoBackup(Exception):
    """What is no whole backup; the message says why."""


class _Metered:
    """A stream of which only so much is read as was granted."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = 0

    def grant(self, size: int) -> None:
        """Allow so many bytes from now on, and what fills their last blocks."""
        self._left = size + 2 * _BLOCK_BYTES

    def read(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise NoBackup(f"more than {_HEADER_BYTES} bytes stand before one of its files")
        return self._file.read(size)


def prove(folder: Path, show: Show) -> Manifest:
    """The manifest of a backup that is a folder, once all its files are proven; raises NoBackup."""
    try:
        size = (folder / MANIFEST).stat().st_size
        manifest = _decoded(size, (folder / MANIFEST).read_bytes if size <= MOST_MANIFEST_BYTES else bytes)
    except FileNotFoundError:
        raise NoBackup(f"it has no {MANIFEST}") from None
    there = {path.relative_to(folder).as_posix(): path for path in files_of(folder)}
    for name in there:
        if name not in manifest.files and name != MANIFEST:
            raise NoBackup(f"it holds {name!r}, which its {MANIFEST} does not name")
    for count, (name, entry) in enumerate(manifest.files.items(), 1):
        show(count, len(manifest.files), f"proving {name}")
        if name not in there:
            raise NoBackup(f"{name} is missing")
        if there[name].stat().st_size != entry.bytes or sha256_of(there[name]) != entry.sha256:
            raise NoBackup(f"{name} was changed")
    return manifest


def _decoded(size: int, read: Callable[[], bytes]) -> Manifest:
    """A manifest of so many bytes, whose names are fit to be names of files below a folder."""
    if size > MOST_MANIFEST_BYTES:
        raise NoBackup(f"its {MANIFEST} has {size} bytes, more than {MOST_MANIFEST_BYTES}")
    try:
        manifest = msgspec.json.decode(read(), type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NoBackup(f"its {MANIFEST} cannot be read: {error}") from None
    if manifest.version != VERSION:
        raise NoBackup(f"it has version {manifest.version}, this engine knows {VERSION}")
    for name, entry in manifest.files.items():
        parts = PurePosixPath(name).parts
        if not parts or name != "/".join(parts) or ".." in parts or "\0" in name or parts == (MANIFEST,):
            raise NoBackup(f"its {MANIFEST} names {name!r}, which is no file of a backup")
        if entry.bytes < 0:
            raise NoBackup(f"its {MANIFEST} says that {name} has {entry.bytes} bytes")
    folders = {str(parent) for name in manifest.files for parent in PurePosixPath(name).parents}
    for name in manifest.files:
        if name in folders:
            raise NoBackup(f"its {MANIFEST} names {name} as a file and as a folder")
    return manifest


def unpack(backup: Path, folder: Path, show: Show) -> Manifest:
    """Unpack an archive into an empty folder, each file proven by size and hash; its manifest.

    Raises NoBackup for anything but the files that the manifest names, each once.
    """
    try:
        with compressed(backup, backup.name, "r") as file:
            stream = _Metered(file)
            stream.grant(_HEADER_BYTES)
            with tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK_BYTES) as tar:  # type: ignore[call-overload]
                return _unpacked(tar, stream, backup, folder, show)
    except (tarfile.TarError, EOFError, zlib.error, RecursionError, OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise NoBackup(f"it cannot be unpacked: {error}") from None


def _unpacked(tar: tarfile.TarFile, stream: _Metered, backup: Path, folder: Path, show: Show) -> Manifest:
    first = tar.next()
    if first is None or first.name != MANIFEST or not _is_plain(first):
        raise NoBackup(
            f"it does not begin with its {MANIFEST}; if it was packed otherwise, unpack it and name the folder"
        )
    stream.grant(min(first.size, MOST_MANIFEST_BYTES))
    manifest = _decoded(first.size, _content(tar, first).read)
    _check_room(manifest, backup, folder)
    missing = dict(manifest.files)
    while True:
        stream.grant(_HEADER_BYTES)
        member = tar.next()
        # A tar file keeps what it has met; nobody asks again.
        tar.members.clear()  # type: ignore[attr-defined]
        if member is None:
            break
        if not _is_plain(member):
            raise NoBackup(f"{member.name!r} in it is no plain file")
        entry = missing.pop(member.name, None)
        if entry is None:
            twice = member.name in manifest.files
            raise NoBackup(f"it holds {member.name!r}{' twice' if twice else f', which its {MANIFEST} does not name'}")
        show(len(manifest.files) - len(missing), len(manifest.files), f"unpacking {member.name}")
        if member.size != entry.bytes:
            raise NoBackup(f"{member.name} was changed")
        stream.grant(member.size)
        _write(_content(tar, member), folder / member.name, entry)
    for name in missing:
        raise NoBackup(f"{name} is missing")
    return manifest


def _is_plain(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not member.issparse() and member.size >= 0


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    if content is None:
        raise NoBackup(f"{member.name!r} in it is no plain file")
    return content


def _check_room(manifest: Manifest, backup: Path, folder: Path) -> None:
    """Refuse what explodes, and what the disk cannot take, before any of it is written."""
    size, packed = sum(entry.bytes for entry in manifest.files.values()), backup.stat().st_size
    if size > max(MOST_TIMES * packed, FREE_BYTES):
        raise NoBackup(f"{size} bytes would come of {packed}: no home packs so well")
    free = shutil.disk_usage(folder).free
    if size > free:
        raise NoBackup(f"{size} bytes would come of it, and {folder.parent} has room for {free}")


def _write(content: IO[bytes], path: Path, entry: Entry) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    proof = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while block := content.read(_COPY_BYTES):
            proof.update(block)
            file.write(block)
        if file.tell() != entry.bytes or proof.hexdigest() != entry.sha256:
            raise NoBackup(f"{path.name} was changed")
