"""`metering upgrade`: brings the data of an earlier version to this one, with a backup made before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from metering.errors import UsageError
from metering.home import Home
from metering.ledger.book import VERSION
from metering.ledger.migrations import OLDEST, migrate
from metering.recovery.backup import back_up
from metering.values import format_instant

FOLDER = "backups"


def upgrade(home: Home, say: Callable[[str], None], backup: Path | None = None) -> bool:
    """Bring the ledger to this engine's version; whether there was anything to do.

    The backup lies in `backups/` of the home unless another place is named. Killed anywhere, the ledger is of the
    old version or of the new one. Raises UsageError for data of a newer version, or of one that was never released.
    """
    home.lake.manifest()
    version = home.book.version()
    if version is None or version == VERSION:
        home.book.prepare()
        return False
    if version > VERSION or version < OLDEST:
        raise UsageError(
            f"The ledger {home.book.name} has schema version {version};"
            f" this engine brings versions {OLDEST} to {VERSION} forward.",
            unchanged="Nothing was changed.",
            remedy="Use the version of metering that wrote it, or a newer one.",
        )
    place = backup or _new_place(home, version)
    with home.lock():
        place.absolute().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        back_up(home, place)
        say(f"Backup: {place}")
        home.book.migrate(lambda con: migrate(home.book, con, version, home.now))
    say(f"The ledger {home.book.name}: schema version {version} became {VERSION}.")
    return True


def _new_place(home: Home, version: int) -> Path:
    stamp = format_instant(home.now).partition(".")[0].replace(":", "").removesuffix("Z")
    place = home.path / FOLDER / f"before-upgrade-from-{version}-{stamp}.tar.zst"
    number = 2
    while place.exists():
        place = place.with_name(f"before-upgrade-from-{version}-{stamp}.{number}.tar.zst")
        number += 1
    return place
