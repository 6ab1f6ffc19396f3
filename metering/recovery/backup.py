"""`metering backup`: a consistent copy of a home, in a folder or one archive file, while other runs go on."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

import msgspec

from metering import __version__
from metering.config import CONFIG_NAME
from metering.durable import sync
from metering.errors import MeteringError, UsageError
from metering.home import Home
from metering.lake.files import Files, sha256_of
from metering.lake.store import Lake
from metering.ledger.sqlite import copy_sqlite
from metering.values import printable

MANIFEST = "backup.json"
LEDGER = "ledger.db"
SANDBOX = "sandbox"
SETTINGS = ("prices.csv", "accounts.csv")
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.zst")
VERSION = 1
LONGEST = 200
"""Characters of a file's name that are kept where it must be written otherwise."""
MOST_MANIFEST_BYTES = 2**28
"""Enough for well over a million files; `restore` takes no more into memory."""


class Entry(msgspec.Struct, frozen=True):
    """A file in a backup."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds: every file with its hash, by its path in the backup."""

    made_at: int
    engine: str
    files: dict[str, Entry]
    version: int = VERSION


def is_archive(path: Path) -> bool:
    """Whether a backup of that name is one file."""
    return path.name.endswith(ARCHIVES)


def back_up(home: Home, destination: Path) -> Manifest:
    """Copy a home; the copy appears under its name only when it is whole and synced.

    Raises UsageError if there is something of that name already.
    """
    target = destination.absolute()
    _check(home, target)
    part = target.with_name(f".{target.name}.part")
    folder = part.with_name(f"{part.name}.d") if is_archive(target) else part
    for left in {part, folder}:
        remove(left)
    folder.mkdir(mode=0o700, parents=True)
    try:
        manifest = _copy(home, folder)
        if is_archive(target):
            _pack(folder, part, target.name)
        sync(part)
        part.rename(target)
        sync(target.parent)
    finally:
        for left in {part, folder}:
            remove(left)
    return manifest


def _check(home: Home, target: Path) -> None:
    if target.exists():
        raise UsageError(
            f"{target} exists already; a backup overwrites nothing.",
            unchanged="Nothing was copied.",
            remedy="Name another file or folder, such as one with the date in it.",
        )
    for inside in (home.lake.root, home.inbox, home.path / SANDBOX):
        if inside.resolve() in target.resolve().parents:
            raise UsageError(
                f"{target} lies in {inside}, which is itself backed up.",
                unchanged="Nothing was copied.",
                remedy="Name a place outside, best on another disk.",
            )


def _copy(home: Home, folder: Path) -> Manifest:
    # The ledger first: whatever it names is in the lake by then, and what the lake has beyond it is taken over.
    if home.book.exists:
        home.book.save(folder / LEDGER)
    _copy_lake(home.lake, folder / "lake")
    for name in (CONFIG_NAME, *SETTINGS):
        if (home.path / name).exists():
            _copy_file(home.path / name, folder / name)
    _copy_tree(home.inbox, folder / "inbox", _copy_file)
    _copy_tree(home.path / SANDBOX, folder / SANDBOX, _copy_sandbox)
    files = {
        path.relative_to(folder).as_posix(): Entry(path.stat().st_size, sha256_of(path)) for path in files_of(folder)
    }
    manifest = Manifest(made_at=home.now, engine=__version__, files=files)
    said = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    if len(said) > MOST_MANIFEST_BYTES:
        raise MeteringError(
            f"{len(files)} files are more than one backup can name.",
            unchanged="No backup was made.",
            remedy="Move the oldest files of inbox/done elsewhere; the lake has every line of them.",
        )
    (folder / MANIFEST).write_bytes(said)
    for path in (*files_of(folder), *(path for path in folder.rglob("*") if path.is_dir()), folder):
        sync(path)
    return manifest


def _copy_lake(lake: Lake, target: Path) -> None:
    """The manifest first, then everything but caches; files that it names must all be there in the end."""
    for attempt in range(3):
        remove(target)
        manifest = lake.manifest()
        _copy_files(lake.files, target)
        copied = Lake(target)
        missing = [file.path for file in manifest.files if not (target / file.path).exists()]
        if not missing and copied.manifest() == manifest:
            return
        if attempt and missing and not set(missing) & set(lake.files.names()):
            raise MeteringError(
                f"The lake lacks {missing[0]}, which its manifest names.",
                unchanged="No backup was made.",
                remedy="Run `metering verify`; put the file back from an earlier backup.",
            )
    raise MeteringError(
        "The lake changed all the time while it was copied.",
        unchanged="No backup was made.",
        remedy="Run the backup again when no ingest runs.",
    )


def _copy_files(files: Files, target: Path) -> None:
    names = files.names()
    for folder in {(target / name).parent for name in names}:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def copy(name: str) -> None:
        # Another run may have dropped it; what must be there is looked for in the end.
        with suppress(FileNotFoundError):
            files.copy(name, target / name)

    with ThreadPoolExecutor(files.workers) as pool:
        for _ in pool.map(copy, names):
            pass


def _copy_tree(source: Path, target: Path, copy: Callable[[Path, Path], None]) -> None:
    for path in files_of(source):
        relative = path.relative_to(source)
        if any(part.startswith(".") for part in relative.parts) or path.suffix in (".part", ".tmp"):
            continue
        copied = target / _in_text(relative)
        copied.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            copy(path, copied)
        except FileNotFoundError:
            # Another run has moved or dropped it; what must be there is looked for in the end.
            continue


def _in_text(relative: Path) -> Path:
    """The path itself, or one in text where a producer named a file in none: a manifest is text."""
    text = printable(relative)
    if text == str(relative):
        return relative
    digest = hashlib.sha256(os.fsencode(relative)).hexdigest()[:12]
    return Path(printable(relative.parent)) / f"{digest}-{printable(relative.name)[-LONGEST:]}"


def _copy_file(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _copy_sandbox(source: Path, target: Path) -> None:
    if source.suffix == ".db":
        copy_sqlite(source, target)
    elif not source.name.endswith(("-wal", "-shm")):
        # A line that is being written is not there yet.
        content = source.read_bytes()
        target.write_bytes(content[: content.rfind(b"\n") + 1])


def files_of(folder: Path) -> list[Path]:
    """Every file below a folder, in the order of their names."""
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []


# Archives


@contextmanager
def compressed(path: Path, name: str, mode: str) -> Iterator[IO[bytes]]:
    """A file that is compressed as its name says."""
    if name.endswith((".gz", ".tgz")):
        import gzip

        with gzip.open(path, f"{mode}b") as file:
            yield cast("IO[bytes]", file)
    elif name.endswith(".zst"):
        import pyarrow as pa

        opened = (
            pa.CompressedOutputStream(str(path), "zstd")
            if mode == "w"
            else pa.input_stream(str(path), compression="zstd")
        )
        with opened as file:
            yield file
    else:
        with path.open(f"{mode}b") as file:
            yield file


def _pack(folder: Path, part: Path, name: str) -> None:
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT, 0o600))
    with compressed(part, name, "w") as file, tarfile.open(fileobj=file, mode="w|") as tar:
        # The manifest leads, so that a reader knows what must come.
        for path in sorted(files_of(folder), key=lambda path: path != folder / MANIFEST):
            tar.add(path, path.relative_to(folder).as_posix(), recursive=False)


def remove(path: Path) -> None:
    """Take a file or a whole folder away, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
