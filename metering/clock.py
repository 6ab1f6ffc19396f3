"""The engine's clock: the only place that reads the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """Now, in microseconds since the epoch: fixed by `--now`, else the machine's real clock."""

    fixed: int | None = None

    def now(self) -> int:
        """The current instant."""
        return time.time_ns() // 1000 if self.fixed is None else self.fixed

    @property
    def is_real(self) -> bool:
        """Whether this is the machine's clock."""
        return self.fixed is None


def stopwatch() -> Callable[[], int]:
    """Starts now; tells the microseconds that have really passed since, whatever `--now` says."""
    began = time.monotonic_ns()
    return lambda: (time.monotonic_ns() - began) // 1000


class Pace:
    """Lets at most so many calls a second pass, evenly spaced, from any number of threads."""

    def __init__(self, per_second: int) -> None:
        self.per_second = per_second
        self._interval = 1_000_000_000 // per_second
        self._next = 0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the next call may be made."""
        with self._lock:
            now = time.monotonic_ns()
            mine = max(self._next, now)
            self._next = mine + self._interval
        if mine > now:
            threading.Event().wait((mine - now) / 1_000_000_000)
