"""Every week: prove every invariant, make a backup, merge small files, remove what nothing needs.

When: once a week, clear of night and close (see jobs/crontab). Runs `metering verify`, `backup`, `compact` and `gc`
on the home that METERING_HOME names; the backup goes into the folder that METERING_BACKUPS names, best on another
disk, as metering-DATE.tar.zst.
Safe to repeat: yes. Merging and removing change nothing that anybody sees; a second backup of a day gets a number.
If it fails: a step that does not end with 0 stops those after it, so that nothing is removed where something does
not hold. Exit 3: an invariant does not hold; read what `metering verify` printed, and keep the backups that are
there. Exit 1: a step failed or the time was up (is the disk of the backups full?); run it again. Exit 2: the
configuration, METERING_HOME or METERING_BACKUPS is wrong. Exit 75: another run holds the lock; run it again later.
Old backups are removed by your own rule: this job removes none.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from bounded import WRONG_USE, main


def backup(folder: Path) -> Path:
    """Where today's backup goes: nothing of that name is there."""
    day = os.environ.get("METERING_NOW", "")[:10] or f"{datetime.now(UTC):%Y-%m-%d}"
    number, place = 1, folder / f"metering-{day}.tar.zst"
    while place.exists():
        number += 1
        place = folder / f"metering-{day}.{number}.tar.zst"
    return place


def run() -> int:
    """All four steps."""
    folder = os.environ.get("METERING_BACKUPS", "")
    if "--help" not in sys.argv and not Path(folder or "nowhere").is_dir():
        what = f"names no folder: {folder!r}" if folder else "is not set"
        remedy = "Make it, or name another." if folder else "Put the folder for backups into it, best on another disk."
        print(f"job upkeep: METERING_BACKUPS {what}. Nothing was done. {remedy}", file=sys.stderr)
        return WRONG_USE
    steps = [["verify"], ["backup", str(backup(Path(folder)))], ["compact"], ["gc"]]
    return main(str(__doc__), "upkeep", steps, limit_seconds=6 * 3600)


if __name__ == "__main__":
    sys.exit(run())
