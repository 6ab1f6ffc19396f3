"""This project from its maintained state; the state is brought up to the lake before the clock starts."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

from metering import state
from metering.lake import Lake, connect
from metering.usage import meter
from metering.values import Month

from ..child import Stopwatch
from ..question import Question, Row
from .ours import rows_of


def advance(watch: Stopwatch, lake: str, now: int, memory_limit: str | None) -> None:
    """Bring the state of a lake up to its last batch, with the clock running."""
    with watch():
        state.advance(Lake(Path(lake)), now, memory_limit)


def prepare(question: Question) -> None:
    """Bring the state up to the lake, as each night does."""
    state.advance(Lake(Path(question.lake)), question.end, question.memory_limit)


def month(question: Question) -> list[Row]:
    """Usage per account × SKU × region."""
    with connect(question.memory_limit, question.spill) as con:
        con.execute(f"SET threads = {question.threads}")
        if not state.open_usage(con, Lake(Path(question.lake)), question.end, UTC):
            raise RuntimeError("the state did not answer")
        meter.set_periods(con, meter.month_periods([Month.parse(question.month)], UTC))
        return rows_of(meter.account_usage(con))
