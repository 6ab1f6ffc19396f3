"""What a check has found."""

from __future__ import annotations

from typing import NamedTuple

from metering.values import format_instant

OK, WARN, FAIL = "ok", "warn", "fail"
SHOWN = 20
"""So many findings of one kind are told one by one."""

HOUR = 3600 * 10**6
NIGHT = 26 * HOUR
"""A night that begins two hours late is no missed one."""
WEEK = 8 * 24 * HOUR
"""Nor is a weekly upkeep that begins a day late."""


class Finding(NamedTuple):
    """One row: `warn` will hurt later, `fail` hurts now."""

    state: str
    what: str
    remedy: str = ""


def ok(what: str) -> Finding:
    """All is well."""
    return Finding(OK, what)


def warn(what: str, remedy: str) -> Finding:
    """It will hurt later."""
    return Finding(WARN, what, remedy)


def fail(what: str, remedy: str) -> Finding:
    """It hurts now."""
    return Finding(FAIL, what, remedy)


def second(instant: int) -> str:
    """An instant to the second, as a finding tells it."""
    return format_instant(instant // 10**6 * 10**6)
