"""The engine's clock: the only place that reads the time."""

from __future__ import annotations

import time
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
