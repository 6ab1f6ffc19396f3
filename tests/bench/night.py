"""A night's work on top of a short and of a long history: the same new events, the same snapshots alive.

    python -m tests.bench.night lakes --events 10m,100m --alive 200k --new 50k

makes one lake a length, brings its state up to the end (once: it is kept), then takes the new batch in on a copy and
brings the state up again. The night is measured; what it costs should not depend on the length.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from metering.lake import Lake
from metering.state.files import Store
from metering.values import MICROS_PER_DAY

from .child import Failed, Measured, run
from .history import History
from .lakes import BUCKETS, add_batch
from .month import count, lake_of

WORK = "work"
"""Folder beside the lakes for the copy that a night is tried on."""


def build(root: Path, history: History, given: argparse.Namespace) -> Measured | None:
    """What the state costs from scratch; None where the lake has it already."""
    lake_of(root, history, given.batches)
    if Store(Lake(root)).load():
        return None
    return run("peers.state", "advance", given.threads, now=history.end, **_settings(root, given))


def try_night(root: Path, history: History, given: argparse.Namespace) -> Measured:
    """What the night after the history costs, on a copy."""
    work = root.parent / WORK
    shutil.rmtree(work, ignore_errors=True)
    # The files never change, the manifest and the state are swapped: links do for a copy.
    shutil.copytree(root, work, copy_function=os.link)
    try:
        add_batch(Lake(work), history, history.night(given.new))
        return run("peers.state", "advance", given.threads, now=history.end + MICROS_PER_DAY, **_settings(work, given))
    finally:
        shutil.rmtree(work)


def _settings(lake: Path, given: argparse.Namespace) -> dict[str, Any]:
    return {"lake": str(lake.resolve()), "memory_limit": given.memory_limit}


def _line(length: str, step: str, took: Measured) -> str:
    return f"{length:<10}{step:<14}{took.wall:>9.2f}{took.cpu:>9.2f}{took.peak // 2**20:>10}"


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
    options.add_argument("--repeat", type=int, default=1, help="nights, of which the fastest counts")
    given = options.parse_args()
    print(f"{'history':<10}{'step':<14}{'wall s':>9}{'CPU s':>9}{'peak MiB':>10}", flush=True)
    for length in given.events.split(","):
        history = History(count(length), given.seed, alive=given.alive)
        try:
            if built := build(given.lakes / length, history, given):
                print(_line(length, "from scratch", built), flush=True)
            nights = [try_night(given.lakes / length, history, given) for _ in range(given.repeat)]
            print(_line(length, "the night", min(nights, key=lambda each: each.wall)), flush=True)
        except Failed as failure:
            print(f"{length:<10}{failure}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
