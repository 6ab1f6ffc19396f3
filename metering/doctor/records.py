"""The records: who holds the lock, the lake's manifest and files, the ledger's integrity and age."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from metering.doctor.finding import SHOWN, Finding, fail, ok, warn
from metering.home import Home
from metering.ledger.book import VERSION

MANY_PARTS = 500
LARGE_LOG = 2**28
"""Bytes of a write-ahead log that no checkpoint has emptied."""


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
    if not home.lake.root.exists():
        yield ok("no events yet")
        return
    manifest = home.lake.manifest()
    named = manifest.files
    missing = [file.path for file in named if not (home.lake.root / file.path).exists()]
    for path in missing[:SHOWN]:
        yield fail(f"{path} is missing", "Put it back from a backup: `metering restore BACKUP`.")
    if len(missing) > SHOWN:
        yield fail(f"{len(missing) - SHOWN} more files are missing", "Put them back from a backup.")
    if len(manifest.parts()) > MANY_PARTS:
        yield warn(f"{len(manifest.parts())} batches in a file of their own", "Run `metering compact`.")
    if not missing:
        yield ok(f"{manifest.last_batch} batches in {len(named)} files")


def ledger(home: Home) -> Iterator[Finding]:
    """The ledger is whole, of this version, and not older than the lake knows it."""
    path = home.book.path
    if not path.exists():
        home.check_book()
        yield ok("nothing was ever booked")
        return
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=60)) as con:
            version = con.execute("PRAGMA user_version").fetchone()[0]
            problems = [row[0] for row in con.execute("PRAGMA quick_check(5)").fetchall()]
    except sqlite3.DatabaseError as error:
        yield fail(f"{path.name}: {error}", "Keep the file, move it away, and run `metering restore`.")
        return
    if problems != ["ok"]:
        yield fail(f"{path.name} is damaged: {problems[0]}", "Move it away and run `metering restore`.")
        return
    if version != VERSION:
        newer = version > VERSION
        remedy = "Use the version of metering that wrote it." if newer else "Run `metering upgrade`."
        yield fail(f"{path.name} has schema version {version}; this engine knows {VERSION}", remedy)
        return
    home.check_book()
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size > LARGE_LOG:
        size = log.stat().st_size / 10**6
        yield warn(f"{log.name} has {size:.0f} MB: a reader holds it open", "End readers that run for hours.")
    yield ok(f"{path.name} is whole, schema version {version}")
