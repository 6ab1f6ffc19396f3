"""Putting a backup's files back into a home: what is there stays, what is missing comes back, the ledger last."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from metering.config import CONFIG_NAME, load_config
from metering.durable import sync
from metering.errors import MeteringError, UsageError
from metering.failpoints import failpoint
from metering.lake import store
from metering.lake.files import Files, sha256_of
from metering.lake.store import Lake, open_lake
from metering.ledger.archive import tip_of
from metering.ledger.book import Book, open_book
from metering.ledger.sqlite import SqliteBook
from metering.recovery.backup import (
    LEDGER,
    SANDBOX,
    SETTINGS,
    Manifest,
    files_of,
    is_archive,
    remove,
)
from metering.recovery.unpack import NoBackup, prove, unpack
from metering.shipped import shipped
from metering.values import counted

Say = Callable[[str], None]
Show = Callable[[int, int, str], None]
Put = Callable[[Path, Path], bool]
"""Puts a file in place unless there is one; whether it did."""


def put_back(path: Path, backup: Path, say: Say, show: Show) -> None:
    """Put what a home lacks back from a backup, once every hash in it is proven.

    Raises UsageError for what is no whole backup, and for a home of another book.
    """
    with _opened(path, backup, show) as (folder, manifest):
        show(0, 0, "putting back")
        _write_home(path, folder, manifest, say)


@contextmanager
def _opened(path: Path, backup: Path, show: Show) -> Iterator[tuple[Path, Manifest]]:
    """The folder of a proven backup, and what it holds; an archive is unpacked beside the home."""
    if not backup.exists():
        raise UsageError(
            f"There is no backup {backup}.",
            unchanged="Nothing was put back.",
            remedy="Name what `metering backup` wrote.",
        )
    try:
        if backup.is_dir():
            yield backup, _whole(prove(backup, show))
            return
        if not is_archive(backup):
            raise NoBackup("it is neither a folder nor a .tar, .tar.gz or .tar.zst file")
        folder = path.absolute().with_name(f".{path.absolute().name}.restore.part")
        remove(folder)
        folder.mkdir(mode=0o700, parents=True)
        try:
            yield folder, _whole(unpack(backup, folder, show))
        finally:
            remove(folder)
    except NoBackup as error:
        raise UsageError(
            f"{backup} is no whole backup: {error}.",
            unchanged="Nothing was put back.",
            remedy="Take another backup; `metering backup DEST` makes one.",
        ) from None


def _whole(manifest: Manifest) -> Manifest:
    if CONFIG_NAME not in manifest.files:
        raise NoBackup(f"{CONFIG_NAME} is missing")
    return manifest


def _write_home(path: Path, folder: Path, manifest: Manifest, say: Say) -> None:
    config = load_config((folder if _says_nothing(path / CONFIG_NAME) else path) / CONFIG_NAME)
    ledger = open_book(config.ledger.url, path)
    lake = open_lake(config.lake.url, path, ledger.claim)
    _check_same(ledger, SqliteBook(folder / LEDGER))
    for name in (CONFIG_NAME, *SETTINGS):
        if _says_nothing(path / name):
            (path / name).unlink(missing_ok=True)
    counts: Counter[bool] = Counter()

    def put(source: Path, target: Path) -> bool:
        done = _put(source, target)
        counts[done] += 1
        return done

    counts.update(_put_lake(path, lake, folder, manifest, say))
    if (folder / SANDBOX).is_dir() and not (path / SANDBOX).exists():
        _put_folder(folder / SANDBOX, path / SANDBOX)
    _put_inbox(path, folder, put)
    failpoint("restore.before_ledger")
    if (folder / LEDGER).exists():
        counts[_load(ledger, folder / LEDGER)] += 1
    # The configuration comes last: without it no command takes the folder for a home.
    for name in (*SETTINGS, CONFIG_NAME):
        if name not in manifest.files or put(folder / name, path / name):
            continue
        if sha256_of(path / name) != manifest.files[name].sha256:
            say(f"{name} stays as it is; the backup has another one.")
    failpoint("restore.after_ledger")
    say(f"{counted(counts[True], 'file')} put back, {counts[False]} there already.")


def _says_nothing(path: Path) -> bool:
    """Whether a settings file is missing, or as `metering init` wrote it."""
    return not path.exists() or path.read_bytes() == shipped(f"schemas/home/{path.name}").read_bytes()


def _load(ledger: Book, copy: Path) -> bool:
    try:
        return ledger.load(copy)
    except OSError as error:
        raise _cannot_write(ledger.name, error) from None


def _check_same(here: Book, there: Book) -> None:
    """Refuse a home whose ledger is of another book than the backup's."""
    if not here.exists or not there.exists:
        return
    tips = []
    for book in (here, there):
        with book.read() as con:
            tips.append(tip_of(con, 1))
    if tips[0] and tips[1] and tips[0] != tips[1]:
        raise UsageError(
            f"{here.name} is the ledger of another book than the backup's.",
            unchanged="Nothing was put back.",
            remedy="Restore into an empty folder, or into the home that the backup is of.",
        )


def _put_lake(path: Path, lake: Lake, folder: Path, manifest: Manifest, say: Say) -> Iterator[bool]:
    """Put the lake's files back, its manifest last; whether each was missing.

    Tells which events the manifest does not know if it counts again.
    """
    there = set(lake.files.names())
    source = folder / "lake" / store.MANIFEST
    for file in files_of(folder / "lake"):
        name = file.relative_to(folder / "lake").as_posix()
        if file != source:
            if name not in there:
                _add(lake.files, file, name)
            yield name not in there
    if not source.exists():
        return
    found = lake.files.read(store.MANIFEST)
    # The manifest of a backup that is later than the home's lake names all of it and more.
    if found and lake.manifest().last_batch >= Lake(folder / "lake").manifest().last_batch:
        yield False
        return
    lake.files.replace(store.MANIFEST, source.read_bytes(), found.tag if found else None)
    yield True
    taken = {file.name for file in files_of(path / "inbox" / "done")}
    later = taken - {Path(name).name for name in manifest.files}
    if later:
        told = f"{counted(len(later), 'file')} came after the backup"
        say(f"{told}: `metering ingest inbox/done` takes in again what was in it.")


def _add(files: Files, source: Path, name: str) -> None:
    """Put a file into the lake whole."""
    part = files.root / Path(name).with_name(f".{Path(name).name}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, part)
        sync(part)
        files.add(part, name)
    except OSError as error:
        raise _cannot_write(f"{files.url}/{name}", error) from None


def _put_inbox(path: Path, folder: Path, put: Put) -> None:
    """Put event files back, but not into the inbox what has been taken from it since."""
    (path / "inbox").mkdir(parents=True, exist_ok=True)
    taken = {file.name for file in files_of(path / "inbox" / "done")}
    for file in files_of(folder / "inbox"):
        if file.parent != folder / "inbox" or file.name not in taken:
            put(file, path / file.relative_to(folder))


def _put(source: Path, target: Path) -> bool:
    """Put a file in place whole, unless there is one."""
    if target.exists():
        return False
    _copy(source, target)
    return True


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: that of a producer's file may leave no room for more.
    part = target.with_name(".restore.part")
    try:
        shutil.copyfile(source, part)
        sync(part)
        part.replace(target)
        sync(target.parent)
    except OSError as error:
        raise _cannot_write(str(target), error) from None


def _cannot_write(what: str, error: OSError) -> MeteringError:
    return MeteringError(
        f"{what} cannot be written: {error.strerror or error}.",
        unchanged="What was put back stays; nothing was overwritten.",
        remedy="Make room, then run the same command again: it goes on.",
    )


def _put_folder(source: Path, target: Path) -> None:
    """Put a folder in place as one."""
    part = target.with_name(f".{target.name}.part")
    remove(part)
    shutil.copytree(source, part)
    part.chmod(0o700)
    for path in files_of(part):
        sync(path)
    part.rename(target)
