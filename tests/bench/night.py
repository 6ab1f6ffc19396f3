"""A night's work on top of a short and of a long history: the same new events, the same snapshots alive.

    python -m tests.bench.night lakes --events 10m,100m --alive 200k --new 50k

makes one lake a length, brings its state up to the end, then takes the new batch in and brings the state up again.
The night is measured; what it costs should not depend on the length.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from metering.lake import Lake
from metering.values import MICROS_PER_DAY

from .child import Failed, Measured, run
from .history import History
from .lakes import BUCKETS, add_batch
from .month import count, lake_of

WORK = "work"
"""Folder beside the lakes for the copy that a night is tried on."""


def try_night(root: Path, history: History, given: argparse.Namespace) -> list[tuple[str, Measured]]:
    """What the state costs from scratch, and what the night after the history costs."""
    lake_of(root, history, given.batches)
    work = root.parent / WORK
    shutil.rmtree(work, ignore_errors=True)
    # The files never change and the manifest is swapped, so that links do for a copy; a state is made anew.
    shutil.copytree(root, work, copy_function=os.link, ignore=shutil.ignore_patterns("state"))
    settings: dict[str, Any] = {"lake": str(work.resolve()), "memory_limit": given.memory_limit}
    try:
        built = run("peers.state", "advance", given.threads, now=history.end, **settings)
        add_batch(Lake(work), history, history.night(given.new))
        night = run("peers.state", "advance", given.threads, now=history.end + MICROS_PER_DAY, **settings)
    finally:
        shutil.rmtree(work)
    return [("from scratch", built), ("the night", night)]


def main() -> int:
    """One line for each history and step."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("lakes", type=Path, help="folder below which the lakes are made")
    options.add_argument("--events", default="10m,100m", help="lengths of the histories (default 10m,100m)")
    options.add_argument("--alive", type=count, default=count("200k"), help="snapshots alive at the end (default 200k)")
    options.add_argument("--new", type=count, default=count("50k"), help="events of the night (default 50k)")
    options.add_argument("--batches", type=int, default=BUCKETS)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options.add_argument("--memory-limit", help="such as 2GB")
    given = options.parse_args()
    print(f"{'history':<10}{'step':<14}{'wall s':>9}{'CPU s':>9}{'peak MiB':>10}", flush=True)
    for length in given.events.split(","):
        history = History(count(length), given.seed, alive=given.alive)
        try:
            for step, took in try_night(given.lakes / length, history, given):
                print(f"{length:<10}{step:<14}{took.wall:>9.2f}{took.cpu:>9.2f}{took.peak // 2**20:>10}", flush=True)
        except Failed as failure:
            print(f"{length:<10}{failure}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
