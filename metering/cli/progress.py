"""How far long work is, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer

from metering.cli.app import Context
from metering.clock import stopwatch
from metering.values import MICROS_PER_SECOND

QUIET_MICROS = MICROS_PER_SECOND
"""What takes no longer shows nothing."""


@contextmanager
def steps(context: Context, unit: str) -> Iterator[Callable[[int, int, str], None]]:
    """Told the steps done, the steps in all and what is at work, shows them with rate and remaining time.

    Of work whose steps in all are not known (0), it shows what it is and how long it takes. A new number of steps in
    all begins anew.
    """
    if not _is_watched(context):
        yield lambda done, total, name: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    told = TextColumn("{task.fields[count]}"), TimeRemainingColumn(elapsed_when_finished=True), TimeElapsedColumn()
    step = TextColumn("{task.fields[step]}", markup=False)
    bar = Progress(BarColumn(), *told, step, console=Console(stderr=True), transient=True)
    task = bar.add_task(unit, total=None, count="", step="")
    # What tells nothing for long is shown all the same.
    late = Timer(QUIET_MICROS // MICROS_PER_SECOND, bar.start)
    late.daemon = True
    late.start()
    passed, of = stopwatch(), 0

    def show(done: int, total: int, name: str) -> None:
        nonlocal passed, of
        if passed() > QUIET_MICROS:
            bar.start()
        if total != of:
            bar.reset(task, total=total or None)
            passed, of = stopwatch(), total
        micros = passed()
        rate = f"{done * MICROS_PER_SECOND / micros:,.1f} {unit}/s" if done and micros else ""
        bar.update(
            task, completed=done, total=total or None, count=f"{done}/{total} {rate}" if total else "", step=name
        )

    try:
        yield show
    finally:
        late.cancel()
        late.join()
        bar.stop()


def _is_watched(context: Context) -> bool:
    """Whether somebody looks at a terminal."""
    return not context.quiet and not context.json_logs and sys.stderr.isatty()


@contextmanager
def reading(context: Context) -> Iterator[Callable[[int, int, int], None] | None]:
    """Told the bytes done, the bytes in all and the lines read, shows them on standard error if that is a terminal."""
    if not _is_watched(context):
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
