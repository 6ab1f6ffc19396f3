"""However a stream is cut into batches, the maintained state says what all its events say."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import DAY, Event
from test_usage_properties import EDGES, instants, period_lists, streams
from usage_given import events_table, laid_out, opened, relation

from metering import state
from metering.events.identities import Identities
from metering.lake import Batch, Lake, connect
from metering.state import policy
from metering.usage import meter

EXAMPLES = settings(
    max_examples=int(os.environ.get("METERING_EXAMPLES", "3")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize=True,
    print_blob=True,
)
UTC = ZoneInfo("UTC")
LATE = EDGES[-1] + 2 * DAY
"""When everything has happened, so that all that has an end is archived."""


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thresholds so small that everything happens."""
    for name, value in {"WORTH": 0, "SMALL": 1, "FAN": 2, "SPLIT": 2, "MOST_PARTS": 1, "AT_ONCE": 2, "REST": 0}.items():
        monkeypatch.setattr(policy, name, value)


@st.composite
def nights(draw: st.DrawFn) -> list[tuple[list[Event], int]]:
    """A stream cut into batches, each with the instant of the night that takes it in."""
    events = draw(streams)
    count = draw(st.integers(1, 5))
    of_batch = [draw(st.integers(1, count)) for _ in events]
    return [
        (
            [replace(e, batch=n) for e, b in zip(events, of_batch, strict=True) if b == n],
            draw(st.one_of(st.just(LATE), st.just(LATE), instants)),
        )
        for n in range(1, count + 1)
    ]


def take(lake: Lake, events: list[Event]) -> None:
    """Commit events as the next batch."""
    number = lake.manifest().last_batch + 1
    file = lake.write_events(f"{number:08}", [laid_out(events_table(events))], len(events)) if events else None
    lake.commit(Batch(batch=number, ingested_at=number, events=file))
    if number % 2:
        Identities(lake).catch_up()


def answers(con: duckdb.DuckDBPyConnection, periods: list[meter.Period]) -> dict[str, Counter]:
    """What the relations that are open on a connection say."""
    found = {name: Counter(rows(relation(con, name))) for name in ("lifespans", "size_changes")}
    meter.set_periods(con, periods)
    found["usage"] = Counter(rows(meter.usage_by_snapshot(con)))
    found["first"] = Counter([meter.first_month(con, UTC)])
    found["anomalies"] = Counter(rows(meter.anomalies(con, accounts=["a1"])))
    return found


def told(lake: Lake, now: int, periods: list[meter.Period]) -> dict[str, Counter]:
    """What the state says."""
    con = connect()
    con.execute("SET threads = 1")
    assert state.open_usage(con, lake, now, UTC, anomalies=True)
    return answers(con, periods)


def rows(table) -> list[tuple]:
    return [tuple(row.values()) for row in table.to_pylist()]


@EXAMPLES
@given(nights(), period_lists("UTC"), st.integers(0, 10**15))
def test_the_state_says_what_all_events_say(nights: list, periods: list, later: int) -> None:
    """After every night, of any length, also where the clock stood still or went back."""
    known: list[Event] = []
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        for events, now in nights:
            take(lake, events)
            known += events
            made = state.advance(lake, now)
            for asked in {made.now, made.now + later}:
                assert told(lake, asked, periods) == answers(opened(known, asked), periods)


@EXAMPLES
@given(nights(), period_lists("UTC"), st.data())
def test_changed_usage_is_where_the_usage_differs(nights: list, periods: list, data: st.DataObject) -> None:
    """Between any two batches, also with retractions of what came before, after or between them."""
    known: list[Event] = []
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        for events, now in nights:
            take(lake, events)
            known += events
            state.advance(lake, now)
        for after in range(len(nights) + 1):
            found = state.changed_usage(lake, after, len(nights), periods)
            sums = []
            for through in (after, len(nights)):
                con = opened(
                    [e for e in known if e.batch <= through], periods[-1][2] if periods else 0, periods=periods
                )
                sums.append(
                    meter.usage_of(meter.account_usage(con), "month", "period_start", "account_id", "sku", "region")
                )
            keys = sums[0].keys() | sums[1].keys()
            assert found == {(key[0], key[2]) for key in keys if sums[0].get(key) != sums[1].get(key)}
