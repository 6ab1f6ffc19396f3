"""The records: who holds the lock, the lake's manifest and files, the ledger's integrity and age."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from metering.doctor.finding import SHOWN, Finding, fail, ok, warn
from metering.home import Home
from metering.lake.sweep import COMMITTED
from metering.ledger.book import VERSION
from metering.values import counted

MANY_PARTS = 500


def locks(home: Home) -> Iterator[Finding]:
    """Who holds the run lock; asked of the system, so that looking never stands in a run's way."""
    holders = [*_holders(home.path / ".metering.lock")]
    for holder in holders:
        yield ok(f"the run lock is held by {holder}")
    if not holders:
        yield ok("no run holds the lock")


def _holders(path: Path) -> Iterator[str]:
    table = Path("/proc/locks")
    if not path.exists() or not table.exists():
        return
    inode = path.stat().st_ino
    for line in table.read_text("ascii").splitlines():
        fields = line.split()
        # 1: FLOCK ADVISORY WRITE pid major:minor:inode start end; a waiting one has "->" in its second field
        if len(fields) >= 8 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
            yield _process(int(fields[4]))


def _process(pid: int) -> str:
    if pid <= 0:
        return "a process of another container or machine"
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return f"process {pid}"
    return f"process {pid} ({' '.join(words).strip()[-100:]})"


def lake(home: Home) -> Iterator[Finding]:
    """The manifest can be read, and every file that it names is there; `verify` looks into them."""
    if told := home.lake.files.ability():
        yield warn(*told) if told.remedy else ok(told.what)
    home.check_lake()
    manifest = home.lake.manifest()
    if not manifest.batches:
        yield ok("no events yet")
        return
    named = manifest.files
    there = {name for folder in COMMITTED for name in home.lake.files.names(f"{folder}/")}
    missing = [file.path for file in named if file.path not in there]
    for path in missing[:SHOWN]:
        yield fail(f"{path} is missing", "Put it back from a backup: `metering restore BACKUP`.")
    if len(missing) > SHOWN:
        yield fail(f"{len(missing) - SHOWN} more files are missing", "Put them back from a backup.")
    if len(manifest.parts()) > MANY_PARTS:
        yield warn(f"{len(manifest.parts())} batches in a file of their own", "Run `metering compact`.")
    if not missing:
        yield ok(f"{counted(manifest.last_batch, 'batch', 'batches')} in {counted(len(named), 'file')}")


def ledger(home: Home) -> Iterator[Finding]:
    """The ledger is whole, of this version, and not older than the lake knows it."""
    book = home.book
    if not book.exists:
        home.check_book()
        yield ok("nothing was ever booked")
        return
    damage = book.damage(thorough=False)
    if damage:
        yield fail(f"{book.name} is damaged: {damage}", f"{book.aside} and run `metering restore`.")
        return
    version = book.version()
    if version != VERSION:
        newer = version is not None and version > VERSION
        remedy = "Use the version of metering that wrote it." if newer else "Run `metering upgrade`."
        yield fail(f"{book.name} has schema version {version}; this engine knows {VERSION}", remedy)
        return
    home.check_book()
    for told, remedy in book.cautions():
        yield warn(told, remedy)
    yield ok(f"{book.name} is whole, schema version {version}")
