"""The question that every engine answers: one month's usage from raw events, in exact integers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from metering.lake import Lake
from metering.values import Month

Row = tuple[str, str, str, int, int]
"""Account, SKU, region, byte-microseconds, snapshots."""


@dataclass(frozen=True)
class Question:
    """A month (`2025-12`) of a lake, asked when the month has ended."""

    lake: str
    month: str
    threads: int = 1
    memory_limit: str | None = None

    @property
    def start(self) -> int:
        """The month's first instant."""
        return Month.parse(self.month).bounds(UTC)[0]

    @property
    def end(self) -> int:
        """The first instant after the month."""
        return Month.parse(self.month).bounds(UTC)[1]

    @property
    def files(self) -> list[str]:
        """The event files that count."""
        root = Path(self.lake)
        return [str(root / batch.events.path) for batch in Lake(root).manifest().batches if batch.events]

    @property
    def spill(self) -> Path:
        """Where an engine may put what does not fit into memory."""
        return Path(self.lake) / ".bench-spill.part"

    def sql(self, name: str, **more: str) -> str:
        """The text of `peers/<name>.sql` with the month's bounds put in."""
        text = files(__package__).joinpath(f"peers/{name}.sql").read_text("utf-8")
        for key, value in {"start": str(self.start), "end": str(self.end), **more}.items():
            text = text.replace(f"${key}", value)
        return text

    def arguments(self) -> dict[str, Any]:
        """What makes an equal question."""
        return asdict(self)


def hash_of(rows: Iterable[Row]) -> str:
    """The same for the same rows in any order."""
    return sha256(repr(sorted(rows)).encode()).hexdigest()[:16]
