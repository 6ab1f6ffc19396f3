"""The billing zone's offsets from UTC as rows, so that SQL needs no time zone data of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache

from metering.values import MICROS_PER_DAY, MICROS_PER_SECOND, to_datetime, to_instant

FOREVER = 2**62
_FIRST = 0
"""Offsets before 1970 are taken for that of its first instant."""
_STEP = 14 * MICROS_PER_DAY
"""No zone has two changes so close together that both lie in one step."""


def offsets(zone: tzinfo, now: int) -> list[tuple[int, int, int]]:
    """Half-open intervals of constant offset (since, until, offset in microseconds), without gaps.

    They are known to a year or more after now; what lies further off has the last one.
    """
    return _offsets(zone, min(to_datetime(now).year + 2, 9999))


@cache
def _offsets(zone: tzinfo, before_year: int) -> list[tuple[int, int, int]]:
    before = _offset(_FIRST, zone)
    changes = [(-FOREVER, before)]
    for end in range(_FIRST + _STEP, to_instant(datetime(before_year, 1, 1, tzinfo=UTC)), _STEP):
        after = _offset(end, zone)
        if after != before:
            changes.append((_change(end - _STEP, end, zone), after))
        before = after
    ends = [since for since, _ in changes[1:]] + [FOREVER]
    return [(since, until, offset) for (since, offset), until in zip(changes, ends, strict=True)]


def _change(before: int, after: int, zone: tzinfo) -> int:
    """The instant at which the offset changes; it is a whole second."""
    low, high = before // MICROS_PER_SECOND, after // MICROS_PER_SECOND
    old = _offset(before, zone)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(middle * MICROS_PER_SECOND, zone) == old:
            low = middle
        else:
            high = middle
    return high * MICROS_PER_SECOND


def _offset(instant: int, zone: tzinfo) -> int:
    offset = to_datetime(instant, zone).utcoffset()
    return 0 if offset is None else offset // timedelta(microseconds=1)
