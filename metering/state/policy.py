"""Which segments are merged, so that there are few and each row is rewritten seldom.

Segments are kept apart by when they end at the latest: the months of this year and the last, and whole years before,
so that a month's close reads few of them. What comes late joins the segment of its night.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC

from metering.state.files import Folder
from metering.values import MICROS_PER_DAY, Month, to_datetime

FAN = 4
"""So many segments of one size become one."""
LARGEST = 8_000_000
"""Lifespans beyond which a segment is left alone."""
WORTH = 100_000
"""A lake of fewer events has no state: reading them all is as quick. Tests set METERING_STATE_FROM instead."""
SPLIT = 200_000
"""Of more than so much at once (when the state is built) each part of time gets a segment of its own."""
REST = MICROS_PER_DAY
"""Without new events nothing is archived more often than this."""
SMALL = 1000
"""Segments of up to so many owners are of one size."""


def is_worth(events: int) -> bool:
    """Whether a lake of so many events gets a state."""
    return events >= int(os.environ.get("METERING_STATE_FROM", WORTH))


def bucket(ended_until: int | None, now: int) -> str:
    """The part of time to which a segment belongs."""
    if ended_until is None:
        return ""
    month = str(Month.of(ended_until, UTC))
    return month if month >= f"{to_datetime(now).year - 1:04}-01" else month[:4]


def to_merge(segments: Iterable[Folder], now: int) -> list[Folder] | None:
    """Segments that should become one; None where nothing is to be done."""
    current = bucket(now, now)
    buckets: dict[str, list[Folder]] = defaultdict(list)
    for segment in segments:
        if segment.superseded > max(SMALL, live(segment) // 8):
            return [segment]
        buckets[bucket(segment.ended_until, now)].append(segment)
    for name, members in sorted(buckets.items()):
        members = [one for one in members if live(one) < LARGEST]
        if name < current and len(members) > 1:
            return members
        sizes: dict[int, list[Folder]] = defaultdict(list)
        for one in members:
            sizes[_size(one)].append(one)
        for _, alike in sorted(sizes.items()):
            if len(alike) >= FAN:
                return alike
    return None


def live(segment: Folder) -> int:
    """Entries of a segment's index: its snapshots once or twice."""
    return segment.rows["index"]


def _size(segment: Folder) -> int:
    size, rows = 0, live(segment)
    while rows > SMALL:
        rows //= FAN
        size += 1
    return size


def ranges(first: int, last: int, now: int) -> list[tuple[int, int]]:
    """The parts of time from one instant to another: since, until."""
    found: dict[str, tuple[int, int]] = {}
    month = Month.of(first, UTC)
    while month <= Month.of(last, UTC):
        start, end = month.bounds(UTC)
        name = bucket(start, now)
        found[name] = (found.get(name, (start, end))[0], end)
        month = month.plus(1)
    return list(found.values())
