"""Which folders are merged or divided, so that there are few and each row is rewritten seldom.

What can still change lies together. What has ended is kept apart by when it ended: in the months of this year and the
last, and whole years before, so that a month's close reads little of it. What comes late joins the folder of its night.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC
from typing import NamedTuple

from metering.state.files import Folder
from metering.values import MICROS_PER_DAY, Month, to_datetime

FAN = 4
"""So many folders of one size become one."""
LARGEST = 8_000_000
"""Subjects beyond which what has ended is left alone."""
WORTH = 100_000
"""A lake of fewer events has no state: reading them all is as quick. Tests set METERING_STATE_FROM instead."""
AT_ONCE = 1_000_000
"""New events beyond which they are taken in one part after another."""
SPLIT = 200_000
"""Subjects from which on a folder is divided whose ends lie in many parts of time."""
MOST_PARTS = 2
"""Parts of time in which the ends of one folder may lie: a batch often goes over the end of one."""
REST = MICROS_PER_DAY
"""Without new events nothing is archived more often than this."""
SMALL = 1000
"""Folders of up to so many subjects are of one size."""


class Merging(NamedTuple):
    """Folders that become one, or one for each half-open part of time in which something of them ended."""

    members: list[Folder]
    parts: list[tuple[int, int]]


def is_worth(events: int) -> bool:
    """Whether a lake of so many events gets a state."""
    return events >= int(os.environ.get("METERING_STATE_FROM", WORTH))


def to_merge(folders: Iterable[Folder], now: int) -> Merging | None:
    """What should be merged or divided next; None where nothing is to be done."""
    current = bucket(now, now)
    buckets: dict[str, list[Folder]] = defaultdict(list)
    for folder in folders:
        parts = ranges(folder, now)
        if len(parts) > MOST_PARTS and folder.subjects > SPLIT:
            return Merging([folder], parts)
        if folder.superseded > max(SMALL, folder.subjects // 4):
            return Merging([folder], [])
        buckets["open" if folder.is_open else bucket(folder.ended_until, now)].append(folder)
    for name, members in sorted(buckets.items()):
        members = [one for one in members if one.is_open or one.subjects < LARGEST]
        if name < current and len(members) > 1:
            return Merging(members, [])
        sizes: dict[int, list[Folder]] = defaultdict(list)
        for one in members:
            sizes[_size(one)].append(one)
        for _, alike in sorted(sizes.items()):
            if len(alike) >= FAN:
                return Merging(alike, [])
    return None


def bucket(end: int | None, now: int) -> str:
    """The part of time to which an end belongs."""
    if end is None:
        return ""
    month = str(Month.of(end, UTC))
    return month if month >= f"{to_datetime(now).year - 1:04}-01" else month[:4]


def _size(folder: Folder) -> int:
    size, subjects = 0, folder.subjects
    while subjects > SMALL:
        subjects //= FAN
        size += 1
    return size


def ranges(folder: Folder, now: int) -> list[tuple[int, int]]:
    """The parts of time between a folder's first and last end, without gaps: since, until."""
    if folder.ended_from is None or folder.ended_until is None:
        return []
    found: dict[str, tuple[int, int]] = {}
    month = Month.of(folder.ended_from, UTC)
    while month <= Month.of(folder.ended_until, UTC):
        start, end = month.bounds(UTC)
        name = bucket(start, now)
        found[name] = (found.get(name, (start, end))[0], end)
        month = month.plus(1)
    return list(found.values())
