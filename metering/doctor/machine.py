"""The machine: configuration, versions, clock, disk space, file rights."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import duckdb
import sqlalchemy as sa

from metering import __version__
from metering.config import CONFIG_NAME
from metering.doctor.finding import Finding, fail, ok, second, warn
from metering.errors import UsageError
from metering.events.sources import waiting
from metering.home import Home
from metering.ledger.tables import metadata

MINUTE = 60 * 10**6
LEAST_BYTES = 10**9
LEAST_SHARE = 10
"""Percent of a disk that should be free."""
_SAFE_SQLITE = (3, 51, 3)
_OTHERS = stat.S_IRWXO
_GROUP = stat.S_IRWXG


def configuration(home: Home) -> Iterator[Finding]:
    """The configuration is read already; what it asks for must be there, and as it was at the first close."""
    home.check_fixed()
    # Naming them opens nothing: an address that this version cannot hold is refused here.
    _ = home.lake, home.book
    billing = home.config.billing
    yield ok(f"months of {billing.timezone}, {billing.gigabyte_bytes:,} bytes in a gigabyte, {home.config.engine.name}")
    if not home.config.issuer.name:
        yield warn("[issuer] name is empty: nobody stands on the invoices", f"Fill in [issuer] in {CONFIG_NAME}.")


def versions(home: Home) -> Iterator[Finding]:
    """What runs here, and that nothing newer has run before."""
    runs = metadata().tables["runs"].c
    with home.book.read() as con:
        last = con.scalar(sa.select(runs.version).order_by(runs.run.desc()).limit(1))
    if last is not None and _parts(last) > _parts(__version__):
        yield warn(f"the last run was of metering {last}, this is {__version__}", "Use one version everywhere.")
    yield ok(
        f"metering {__version__}, Python {platform.python_version()}, DuckDB {duckdb.__version__},"
        f" SQLite {sqlite3.sqlite_version}"
        + ("" if sqlite3.sqlite_version_info >= _SAFE_SQLITE else " (writers take turns, as it needs)")
    )


def _parts(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def clock(home: Home) -> Iterator[Finding]:
    """The clock stands after everything that was ever written."""
    told = f"{second(home.now)}{'' if home.clock.is_real else ' (set by --now)'}"
    try:
        home.check_clock()
    except UsageError as error:
        yield fail(error.message, "Set the clock right (is a time service running?) before anything else is run.")
        return
    runs = metadata().tables["runs"]
    with home.book.read() as con:
        last = con.scalar(sa.select(sa.func.max(sa.func.coalesce(runs.c.ended_at, runs.c.started_at))))
        jumped = con.scalars(sa.select(runs.c.run).where(runs.c.ended_at < runs.c.started_at)).all()
    batches = home.lake.manifest().batches
    taken = max((batch.ingested_at for batch in batches), default=0)
    if max(last or 0, taken) > home.now + MINUTE:
        newest = second(max(last or 0, taken))
        yield fail(f"{told} is before the last run or batch, of {newest}", "Set the clock right.")
    elif jumped:
        yield warn(f"the clock was set back during run {jumped[-1]}", "Have a time service slew the clock.")
    else:
        yield ok(told)


def disk(home: Home) -> Iterator[Finding]:
    """There is room for the next run: its inbox, a second ledger, and some to spare."""
    coming = 3 * sum(path.stat().st_size for path in waiting(home.inbox))
    ledger = home.book.files[:1]
    coming += 2 * sum(path.stat().st_size for path in ledger if path.exists())
    seen: set[int] = set()
    places = [("home", home.path), ("lake", _there(home.lake.root)), *(("ledger", path.parent) for path in ledger)]
    for name, folder in places:
        device = folder.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        usage = shutil.disk_usage(folder)
        nodes = os.statvfs(folder)
        told = f"{name}: {usage.free / 10**9:.1f} GB free of {usage.total / 10**9:.1f}"
        if usage.free < coming:
            yield fail(f"{told}; the next run may need {coming / 10**9:.1f}", "Make room before the next run.")
        elif usage.free < LEAST_BYTES or usage.free * 100 < usage.total * LEAST_SHARE:
            yield warn(told, "Make room: `metering gc`, old backups, inbox/done.")
        elif nodes.f_files and nodes.f_favail * 100 < nodes.f_files:
            yield warn(f"{told}, but only {nodes.f_favail} more files", "Remove small files: `metering compact`, gc.")
        else:
            yield ok(told)


def _there(folder: Path) -> Path:
    """The folder, or the nearest one above it that there is."""
    while not folder.exists():
        folder = folder.parent
    return folder


def rights(home: Home) -> Iterator[Finding]:
    """Only the home's owner reads and writes what is in it."""
    found = False
    for path, forbidden in _private(home):
        if not path.exists():
            continue
        state = path.stat()
        if not os.access(path, os.R_OK | os.W_OK):
            found = True
            yield fail(f"{path.name} cannot be read and written by this user", f"chown it to user {os.geteuid()}.")
        elif state.st_uid != home.path.stat().st_uid:
            found = True
            yield warn(f"{path.name} belongs to user {state.st_uid}, the home to another", "Run as one user only.")
        elif state.st_mode & forbidden:
            found = True
            mode = stat.S_IMODE(state.st_mode)
            allowed = mode & ~forbidden
            yield warn(f"others may enter {path.name} (mode {mode:04o})", f"chmod {allowed:04o} {path}")
    if not found:
        yield ok("nobody else may read the books")


def _private(home: Home) -> list[tuple[Path, int]]:
    """Each file or folder with the rights that nobody should have on it."""
    return [
        (home.path, _OTHERS),
        (home.path / CONFIG_NAME, stat.S_IWOTH),
        (home.prices_file, stat.S_IWOTH),
        (home.inbox, stat.S_IWOTH),
        (home.lake.root, stat.S_IWOTH),
        *((path, _GROUP | _OTHERS) for path in home.book.files),
        (home.path / "sandbox", _GROUP | _OTHERS),
        *((home.path / name, stat.S_IWOTH) for name in ("outbox", "metrics", "reports", "backups")),
    ]
