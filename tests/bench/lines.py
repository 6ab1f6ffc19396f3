"""A history as JSON Lines for ingest to read, a file for each piece, with redeliveries.

python -m tests.bench.lines inbox --events 1m
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from metering.values import format_instant

from .draws import below
from .history import Events, History
from .lakes import rows
from .month import count

REDELIVERED = 20
"""Events in a thousand that come twice."""
_ENVELOPE = ("source", "id", "type", "subject")
_DATA = (
    "account_id",
    "project_id",
    "region",
    "resource_type",
    "resource_id",
    "name",
    "size_bytes",
    "retracted_source",
    "retracted_id",
)


def write_lines(folder: Path, history: History) -> int:
    """Write the files, each in the order of time; the lines written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for number, piece in enumerate(history.pieces()):
        sent = with_redeliveries(history, piece)
        with (folder / f"{number:05}.jsonl").open("w", encoding="utf-8") as file:
            for line in lines(history, sent):
                file.write(line + "\n")
        written += len(sent)
    return written


def with_redeliveries(history: History, events: Events) -> Events:
    """The events in the order in which they are sent; a repeat comes up to an hour after its event."""
    drawn = history.draw("redelivered", events.name)
    again = np.flatnonzero(below(drawn, 1000) < REDELIVERED)
    delay = below(history.draw("delay", events.name[again]), 3_600_000_000)
    sent_at = np.concatenate([events.time, events.time[again] + delay])
    places = np.concatenate([np.arange(len(events)), again])
    return events.take(places[np.argsort(sent_at, kind="stable")])


def lines(history: History, events: Events, at_once: int = 50_000) -> Iterator[str]:
    """Each event as a CloudEvents object."""
    for first in range(0, len(events), at_once):
        table = rows(history, events.take(np.arange(first, min(first + at_once, len(events)))))
        for row in table.select([*_ENVELOPE, "time", *_DATA]).to_pylist():
            yield json.dumps(_event(row), separators=(",", ":"))


def _event(row: dict[str, Any]) -> dict[str, Any]:
    event = {"specversion": "1.0", **{name: row[name] for name in _ENVELOPE}, "time": format_instant(row["time"])}
    data = {name: row[name] for name in _DATA if row[name] is not None}
    return {**event, "data": data} if data else event


def main() -> int:
    """Write and say how much."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("folder", type=Path)
    options.add_argument("--events", type=count, default=count("1m"))
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    print(f"{write_lines(given.folder, History(given.events, given.seed)):,} lines below {given.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
