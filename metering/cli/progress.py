"""How far a long reading is, on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from metering.cli.app import Context

QUIET_SECONDS = 1.0
"""What takes no longer shows nothing."""


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
    began = time.monotonic()

    def show(done: int, total: int, lines: int) -> None:
        seconds = time.monotonic() - began
        if seconds > QUIET_SECONDS:
            bar.start()
            bar.update(task, completed=done, total=total or None, rate=f"{int(lines / seconds):,}")

    try:
        yield show
    finally:
        bar.stop()
