"""One month from raw events, from scratch: this project beside other engines, on the same files.

    python -m tests.bench.month lakes/10m --events 10m

makes the lake if it is not there yet. Exit code 3 if an engine's answer differs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from metering.lake import Lake

from .child import Failed, Measured, run
from .history import History
from .lakes import BUCKETS, make_lake
from .question import Question

PEERS = ("scan", "ours", "by_hand", "polars", "datafusion", "chdb", "pandas")
"""Who is asked unless `--peers` says otherwise; `state` is this project from its maintained state."""
EMPTY = 0
"""Rows of the bare scan, which answers nothing."""


def count(text: str) -> int:
    """`10m` is ten million, `500k` half of one."""
    factor = {"k": 10**3, "m": 10**6}.get(text[-1:].lower(), 1)
    return int(text.rstrip("kKmM").replace("_", "")) * factor


def lake_of(root: Path, history: History, batches: int) -> int:
    """The events of the lake, which is made if it is not there."""
    if not Lake(root).manifest().batches:
        print(f"making {history.events:,} events below {root} …", file=sys.stderr)
        make_lake(root, history, batches)
    return sum(batch.events.rows for batch in Lake(root).manifest().batches if batch.events)


def best_of(repeat: int, peer: str, question: Question) -> Measured:
    """The run that took the least time; all answers must be one."""
    runs = [
        run("ask", "month", question.threads, peer=peer, question=question.arguments()) for _ in range(max(1, repeat))
    ]
    shutil.rmtree(question.spill, ignore_errors=True)
    if len({each.answer["hash"] for each in runs}) > 1:
        raise Failed("answers differ from run to run")
    return min(runs, key=lambda each: each.wall)


def compare(question: Question, peers: list[str], repeat: int) -> bool:
    """Print one line an engine; whether all answers are equal."""
    print(f"{'engine':<12}{'wall s':>9}{'CPU s':>9}{'peak MiB':>10}{'× scan':>9}{'× ours':>9}  answer", flush=True)
    measured: dict[str, Measured] = {}
    equal = True
    for peer in peers:
        try:
            each = best_of(repeat, peer, question)
        except Failed as failure:
            print(f"{peer:<12}{failure}", flush=True)
            equal = equal and "not installed" in str(failure)
            continue
        measured[peer] = each
        answered = [m for m in measured.values() if m.answer["rows"] != EMPTY]
        same = len({m.answer["hash"] for m in answered}) <= 1
        said = "" if each.answer["rows"] == EMPTY else f"{each.answer['hash']} {'equal' if same else 'DIFFERENT'}"
        equal = equal and same
        print(
            f"{peer:<12}{each.wall:>9.2f}{each.cpu:>9.2f}{each.peak // 2**20:>10}"
            f"{_ratio(each, measured.get('scan'))}{_ratio(each, measured.get('ours'))}  {said}",
            flush=True,
        )
    return equal


def _ratio(each: Measured, base: Measured | None) -> str:
    return f"{'–':>9}" if base is None else f"{each.wall / base.wall:>9.2f}"


def parser(description: str) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("lake", type=Path, help="folder of the lake; made if it is empty")
    options.add_argument("--events", type=count, default=count("10m"), help="such as 1m, 10m, 100m (default 10m)")
    options.add_argument("--batches", type=int, default=BUCKETS, help="ingest runs, evenly over 36 months (default 36)")
    options.add_argument("--alive", type=count, help="exactly so many snapshots alive at the end")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options.add_argument("--memory-limit", help="such as 2GB; heeded by ours, by_hand and scan")
    options.add_argument("--repeat", type=int, default=1, help="runs of each engine, of which the fastest counts")
    return options


def main() -> int:
    """Make, warm up, compare."""
    options = parser(__doc__.split("\n")[0])
    options.add_argument("--month", help="such as 2025-12, the default: the last of the history")
    options.add_argument("--peers", default=",".join(PEERS), help=f"some of {','.join(PEERS)},state")
    given = options.parse_args()
    history = History(given.events, given.seed, alive=given.alive)
    rows = lake_of(given.lake, history, given.batches)
    month = given.month or str(history.last_month)
    question = Question(str(given.lake.resolve()), month, given.threads, given.memory_limit)
    print(f"{rows:,} events in {len(question.files)} files, {month}, {given.threads} threads")
    best_of(1, "scan", question)
    return 0 if compare(question, given.peers.split(","), given.repeat) else 3


if __name__ == "__main__":
    sys.exit(main())
