"""Charts as geometry: where each bar stands. The template draws them; whole numbers only."""

from __future__ import annotations

from calendar import month_abbr
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from metering.dashboard.figures import Figure, short
from metering.values import Month


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar with its figure; a light one behind it is what it will grow to."""

    month: Month
    figure: Figure
    tells: bool
    """Whether its value stands above it: where bars are many, only of the highest that is whole and the last."""
    x: int
    y: int
    height: int
    said_at: int
    anchor: str
    """Where its value is written; beside one that is written too it ends early, so that neither covers the other."""
    expected: Figure | None = None
    expected_y: int = 0
    expected_height: int = 0

    @property
    def label(self) -> str:
        """The month's short name."""
        return month_abbr[self.month.number]

    @property
    def top(self) -> int:
        """Where the higher of the two ends."""
        return min(self.y, self.expected_y) if self.expected else self.y


@dataclass(frozen=True, slots=True)
class Chart:
    """Upright bars over a scale."""

    title: str
    width: int
    height: int
    bar_width: int
    zero: int
    bars: list[Bar]
    ticks: list[tuple[int, str]]


Series = Sequence[tuple[str, Figure, Figure | None]]
"""Month, figure, and what it is expected to become."""

WIDTH, HEIGHT = 460, 200
LEFT, TOP, BOTTOM = 46, 20, 34
ROOMY = 7
"""So many bars leave room for the value of each."""


def columns(title: str, series: Series) -> Chart:
    """A chart of upright bars from zero."""
    values = [figure.value for _, now, later in series for figure in (now, later) if figure is not None]
    step = _step(max([abs(value) for value in values] or [Decimal(0)]))
    highest = _steps_up(max([*values, Decimal(0)]), step)
    lowest = -_steps_up(-min([*values, Decimal(0)]), step)
    inside = HEIGHT - TOP - BOTTOM
    span = (highest - lowest) * step or Decimal(1)

    def y(value: Decimal) -> int:
        return TOP + int((highest * step - value) * inside / span)

    place = (WIDTH - LEFT) // max(len(series), 1)
    bar_width = min(place * 2 // 3, 44)
    highest_at = max(
        range(len(series)), key=lambda index: (series[index][2] is None, series[index][1].value), default=0
    )
    last = len(series) - 1
    bars = []
    for index, (month, now, later) in enumerate(series):
        x = LEFT + place * index + (place - bar_width) // 2
        top, depth = _bar(now.value, y)
        later_top, later_depth = _bar(later.value, y) if later else (0, 0)
        tells = len(series) <= ROOMY or index in (highest_at, last)
        crowded = len(series) > ROOMY and index == highest_at == last - 1
        said = (x + bar_width // 2 + 6, "end") if crowded else (x + bar_width // 2, "middle")
        bars.append(Bar(Month.parse(month), now, tells, x, top, depth, *said, later, later_top, later_depth))
    ticks = [(y(step * count), _tick(step * count)) for count in range(lowest, highest + 1)]
    return Chart(title, WIDTH, HEIGHT, bar_width, y(Decimal(0)), bars, ticks)


def _tick(value: Decimal) -> str:
    number, _, unit = short(value).partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}".strip()


def _bar(value: Decimal, y: Callable[[Decimal], int]) -> tuple[int, int]:
    top, bottom = y(max(value, Decimal(0))), y(min(value, Decimal(0)))
    return top, max(bottom - top, 1 if value else 0)


def _step(largest: Decimal) -> Decimal:
    """A round distance of grid lines: 1, 2 or 5 times a power of ten, three to five of them up to the largest."""
    if not largest:
        return Decimal(1)
    power = Decimal(1).scaleb(largest.adjusted() - 1)
    return next(power * factor for factor in (1, 2, 5, 10, 20, 50) if largest <= power * factor * 4)


def _steps_up(value: Decimal, step: Decimal) -> int:
    return int((value / step).to_integral_value(ROUND_CEILING))


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a lying bar, in thousandths of its length."""

    label: str
    figure: Figure
    start: int
    length: int


def parts(members: Sequence[tuple[str, Figure]]) -> list[Part]:
    """A lying bar cut into its parts; negative ones have no length."""
    whole = sum(max(figure.value, Decimal(0)) for _, figure in members)
    found, start = [], 0
    for label, figure in members:
        length = int(max(figure.value, Decimal(0)) * 1000 / whole) if whole else 0
        found.append(Part(label, figure, start, length))
        start += length
    return found


def share(figure: Figure, largest: Decimal) -> int:
    """The length of a small bar in a table, in hundredths of the largest."""
    return int(max(figure.value, Decimal(0)) * 100 / largest) if largest > 0 else 0
