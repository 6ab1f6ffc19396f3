"""Which months are closed, and which a close closes next: without gaps, in order, each once."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from metering.errors import UsageError
from metering.ledger.tables import metadata
from metering.values import Month, format_instant


def closed_months(con: sa.Connection) -> list[Month]:
    """The closed months, in order."""
    closes = metadata().tables["closes"]
    return [Month.parse(month) for month in con.scalars(sa.select(closes.c.month).order_by(closes.c.month))]


def months_to_close(
    asked: Month | None,
    *,
    closed: Sequence[Month],
    start: Month | None,
    used: Sequence[Month],
    current: Month,
    ends_at: int,
) -> list[Month]:
    """The months that a close takes, in order; empty if there is nothing to do.

    `closed` are the closed months, `start` is `[billing] start`, `used` are the months with usage so far in
    order, `current` is the month that has not ended, `ends_at` is when the asked month ends. Raises UsageError
    for a month that has not ended or is out of order.
    """
    if closed and start is not None and start != closed[0]:
        raise UsageError(
            f"[billing] start = {str(start)!r}, but the book begins with {closed[0]}.",
            unchanged="Nothing was closed.",
            remedy=f"The first close fixed the start: set it to {str(closed[0])!r} or leave it out.",
        )
    if asked is not None and asked >= current:
        raise UsageError(
            f"{asked} has not ended; it ends at {format_instant(ends_at)}.",
            unchanged="Nothing was closed.",
            remedy="Close it on the first day after it.",
        )
    first = closed[-1].plus(1) if closed else start
    if asked is not None:
        return [_asked(asked, first, closed[0] if closed else start, used)]
    if first is None:
        ended = [month for month in used if month < current]
        if len(ended) > 1:
            raise UsageError(
                f"{len(ended)} ended months have usage ({ended[0]} to {ended[-1]}); nothing says where billing begins.",
                unchanged="Nothing was closed.",
                remedy=f'Set `start = "{ended[0]}"` (or a later month) under [billing], or name the month to close.',
            )
        if not ended:
            return []
        first = ended[0]
    months = []
    while first < current:
        months.append(first)
        first = first.plus(1)
    return months


def _asked(asked: Month, first: Month | None, begins: Month | None, used: Sequence[Month]) -> Month:
    if first is not None and asked != first:
        raise UsageError(
            f"{asked} is out of order: the next month to close is {first}.",
            unchanged="Nothing was closed.",
            remedy=f"Close {first} first." if asked > first else f"Billing begins with {begins}.",
        )
    if first is None and used and asked > used[0]:
        raise UsageError(
            f"{asked} is out of order: usage begins in {used[0]}.",
            unchanged="Nothing was closed.",
            remedy=f'Close {used[0]} first, or set `start = "{asked}"` under [billing] to bill nothing before it.',
        )
    return asked
