"""How far long work is, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from metering.cli.app import Context
from metering.clock import stopwatch
from metering.values import MICROS_PER_SECOND

QUIET_MICROS = MICROS_PER_SECOND
"""What takes no longer shows nothing."""


@contextmanager
def steps(context: Context, unit: str) -> Iterator[Callable[[int, int, str], None]]:
    """Told the steps done, the steps in all and what is at work, shows them with rate and remaining time."""
    if context.quiet or context.json_logs or not sys.stderr.isatty():
        yield lambda done, total, name: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    told = TextColumn("{task.fields[rate]} " + unit + "/s"), TimeRemainingColumn(), TextColumn("{task.fields[step]}")
    bar = Progress(BarColumn(), MofNCompleteColumn(), *told, console=Console(stderr=True), transient=True)
    task = bar.add_task(unit, total=None, rate="…", step="")
    passed = stopwatch()

    def show(done: int, total: int, name: str) -> None:
        micros = passed()
        if micros > QUIET_MICROS:
            bar.start()
            bar.update(task, completed=done, total=total, rate=f"{done * MICROS_PER_SECOND / micros:,.1f}", step=name)

    try:
        yield show
    finally:
        bar.stop()


@contextmanager
def reading(context: Context) -> Iterator[Callable[[int, int, int], None] | None]:
    """Told the bytes done, the bytes in all and the lines read, shows them on standard error if that is a terminal."""
    if context.quiet or context.json_logs or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), DownloadColumn(), TextColumn("{task.fields[rate]} lines/s"), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("reading", total=None, rate="…")
    passed = stopwatch()

    def show(done: int, total: int, lines: int) -> None:
        micros = passed()
        if micros > QUIET_MICROS:
            bar.start()
            bar.update(task, completed=done, total=total or None, rate=f"{lines * MICROS_PER_SECOND // micros:,}")

    try:
        yield show
    finally:
        bar.stop()
