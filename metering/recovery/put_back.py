"""Putting a backup's files back into a home: what is there stays, what is missing comes back, the ledger last."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pyarrow as pa

from metering.config import CONFIG_NAME, load_config
from metering.errors import MeteringError, UsageError
from metering.failpoints import failpoint
from metering.lake import store
from metering.lake.store import Lake, sha256_of
from metering.ledger.archive import tip_of
from metering.ledger.book import Book
from metering.recovery.backup import (
    LEDGER,
    MANIFEST,
    SANDBOX,
    SETTINGS,
    VERSION,
    Manifest,
    compressed,
    files_of,
    is_archive,
    remove,
    sync,
)
from metering.shipped import shipped

Say = Callable[[str], None]


def put_back(path: Path, backup: Path, say: Say) -> None:
    """Put what a home lacks back from a backup, once every hash in it is proven.

    Raises UsageError for what is no whole backup, and for a home of another book.
    """
    with _opened(path, backup) as folder:
        manifest = _proven(folder, backup)
        _write_home(path, folder, manifest, say)


@contextmanager
def _opened(path: Path, backup: Path) -> Iterator[Path]:
    """The folder of a backup; an archive is unpacked beside the home."""
    if not backup.exists():
        raise UsageError(f"There is no backup {backup}.", unchanged="Nothing was put back.")
    if backup.is_dir():
        yield backup
        return
    if not is_archive(backup):
        raise _no_backup(backup, "it is neither a folder nor a .tar, .tar.gz or .tar.zst file")
    folder = path.absolute().with_name(f".{path.absolute().name}.restore.part")
    remove(folder)
    folder.mkdir(mode=0o700, parents=True)
    try:
        with compressed(backup, backup.name, "r") as file, tarfile.open(fileobj=file, mode="r|") as tar:
            tar.extractall(folder, filter="data")
        yield folder
    except (tarfile.TarError, EOFError, OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _no_backup(backup, f"it cannot be unpacked: {error}") from None
    finally:
        remove(folder)


def _no_backup(backup: Path, why: str) -> UsageError:
    return UsageError(
        f"{backup} is no whole backup: {why}.",
        unchanged="Nothing was put back.",
        remedy="Take another backup; `metering backup DEST` makes one.",
    )


def _proven(folder: Path, backup: Path) -> Manifest:
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise _no_backup(backup, f"it has no {MANIFEST}") from None
    except msgspec.DecodeError as error:
        raise _no_backup(backup, f"its {MANIFEST} cannot be read: {error}") from None
    if manifest.version != VERSION:
        raise _no_backup(backup, f"it has version {manifest.version}, this engine knows {VERSION}")
    there = {path.relative_to(folder).as_posix(): path for path in files_of(folder)}
    for name, entry in manifest.files.items():
        if name not in there:
            raise _no_backup(backup, f"{name} is missing")
        if there[name].stat().st_size != entry.bytes or sha256_of(there[name]) != entry.sha256:
            raise _no_backup(backup, f"{name} was changed")
    if CONFIG_NAME not in manifest.files:
        raise _no_backup(backup, f"{CONFIG_NAME} is missing")
    return manifest


def _write_home(path: Path, folder: Path, manifest: Manifest, say: Say) -> None:
    config = load_config((folder if _says_nothing(path / CONFIG_NAME) else path) / CONFIG_NAME)
    if "://" in config.lake.url or not config.ledger.url.startswith("sqlite:///"):
        raise UsageError(
            "A backup is put back into a lake that is a folder and a ledger that is a SQLite file.",
            unchanged="Nothing was put back.",
            remedy="Restore the object store and the database with their own tools, then run `metering restore`.",
        )
    ledger = path / config.ledger.url.removeprefix("sqlite:///")
    _check_same(ledger, folder / LEDGER)
    for name in (CONFIG_NAME, *SETTINGS):
        if _says_nothing(path / name):
            (path / name).unlink(missing_ok=True)
    counts = {"put back": 0, "kept": 0}

    def put(source: Path, target: Path) -> bool:
        done = _put(source, target)
        counts["put back" if done else "kept"] += 1
        return done

    lake = path / config.lake.url
    came_later = {file.name for file in files_of(path / "inbox" / "done")} - {
        Path(name).name for name in manifest.files
    }
    if _put_lake(lake, folder / "lake", put) and came_later:
        say(f"{len(came_later)} files came after the backup: `metering ingest inbox/done` takes them in again.")
    if (folder / SANDBOX).is_dir() and not (path / SANDBOX).exists():
        _put_folder(folder / SANDBOX, path / SANDBOX)
    done = {file.name for file in files_of(path / "inbox" / "done")}
    for file in files_of(folder / "inbox"):
        if file.name not in done or "done" in file.relative_to(folder / "inbox").parts[:1]:
            put(file, path / file.relative_to(folder))
    (path / "inbox").mkdir(parents=True, exist_ok=True)
    for name in SETTINGS:
        if (folder / name).exists():
            put(folder / name, path / name)
    failpoint("restore.before_ledger")
    if (folder / LEDGER).exists():
        put(folder / LEDGER, ledger)
        ledger.chmod(0o600)
    if (path / CONFIG_NAME).exists() and sha256_of(path / CONFIG_NAME) != manifest.files[CONFIG_NAME].sha256:
        say(f"{CONFIG_NAME} stays as it is; the backup has another one.")
    put(folder / CONFIG_NAME, path / CONFIG_NAME)
    failpoint("restore.after_ledger")
    say(f"{counts['put back']} files put back, {counts['kept']} were there and stay.")


def _says_nothing(path: Path) -> bool:
    """Whether a settings file is missing, or as `metering init` wrote it."""
    return not path.exists() or path.read_bytes() == shipped(f"schemas/home/{path.name}").read_bytes()


def _check_same(here: Path, there: Path) -> None:
    """Refuse a home whose ledger is of another book than the backup's."""
    if not here.exists() or not there.exists():
        return
    tips = []
    for path in (here, there):
        with Book(path).read() as con:
            tips.append(tip_of(con, 1))
    if tips[0] and tips[1] and tips[0] != tips[1]:
        raise UsageError(
            f"{here} is the ledger of another book than the backup's.",
            unchanged="Nothing was put back.",
            remedy="Restore into an empty folder, or into the home that the backup is of.",
        )


def _put_lake(lake: Path, folder: Path, put: Callable[[Path, Path], bool]) -> bool:
    """Put the lake's files back, the manifest last; whether the manifest is the backup's."""
    for file in files_of(folder):
        if file.name != store.MANIFEST or file.parent != folder:
            put(file, lake / file.relative_to(folder))
    source, target = folder / store.MANIFEST, lake / store.MANIFEST
    if not source.exists():
        return False
    if target.exists() and Lake(lake).manifest().last_batch < Lake(folder).manifest().last_batch:
        # The home's lake is from before the backup, whose manifest names all of it and more.
        _copy(source, target)
        return True
    return put(source, target)


def _put(source: Path, target: Path) -> bool:
    """Put a file in place whole, unless there is one."""
    if target.exists():
        return False
    _copy(source, target)
    return True


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    try:
        shutil.copyfile(source, part)
        sync(part)
        part.replace(target)
        sync(target.parent)
    except OSError as error:
        raise MeteringError(
            f"{target} cannot be written: {error.strerror or error}.",
            unchanged="What was put back stays; nothing was overwritten.",
            remedy="Make room, then run the same command again: it goes on.",
        ) from None


def _put_folder(source: Path, target: Path) -> None:
    """Put a folder in place as one."""
    part = target.with_name(f".{target.name}.part")
    remove(part)
    shutil.copytree(source, part)
    part.chmod(0o700)
    for path in files_of(part):
        sync(path)
    part.rename(target)
