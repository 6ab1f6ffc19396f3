"""Laws of metering that hold for all sizes and months."""

from __future__ import annotations

from datetime import timedelta
from importlib.resources import files
from itertools import pairwise
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from usage_given import opened, relation, rows

from metering.errors import MeteringError
from metering.events.judge import TYPES
from metering.schema import arrow_schema, tables
from metering.sql import has_sql, sql
from metering.usage import meter
from metering.usage.zone import offsets
from metering.values import MICROS_PER_HOUR, Month, format_gb_hours, to_datetime

GB = 10**9


def ready(snapshot: str, time: int, size: int) -> reference.Event:
    told = {"account_id": "acc", "project_id": "prj", "region": "reg"}
    told |= {"resource_type": "vm", "resource_id": "v"}
    return reference.Event("/s", snapshot, "snapshot.ready", snapshot, time, size_bytes=size, **told)


def deleted(snapshot: str, time: int) -> reference.Event:
    return reference.Event("/s", f"{snapshot}-end", "snapshot.deleted", snapshot, time)


@pytest.mark.parametrize("month", ["2026-02", "2028-02", "2026-04", "2026-05"])
def test_50_gb_for_a_month_equal_100_gb_for_half_of_it(month: str) -> None:
    """To the last digit, in months of 28 to 31 days."""
    start, end = Month.parse(month).bounds(ZoneInfo("UTC"))
    middle = (start + end) // 2
    events = [ready("whole", start, 50 * GB), ready("half", start, 100 * GB), ready("late", middle, 100 * GB)]
    events += [deleted("whole", end), deleted("half", middle), deleted("late", end)]
    con = opened(events, end, periods=[meter.Period(month, start, end)])
    usage = meter.usage_of(meter.snapshot_usage(con), "snapshot_id")
    assert len(set(usage.values())) == 1
    hours = (end - start) // MICROS_PER_HOUR
    assert format_gb_hours(usage[("whole",)], GB) == f"{50 * hours}.000000000"


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 31 * reference.DAY), max_size=8), st.integers(0, 2**63 - 1))
def test_a_lifespan_cut_into_snapshots_adds_up(cuts: list[int], size: int) -> None:
    """Deleted and made anew at the same instant, as often as you like, costs what one snapshot costs."""
    month = Month(2026, 5)
    start, end = month.bounds(ZoneInfo("UTC"))
    edges = sorted({start, end, *(start + cut for cut in cuts if start + cut < end)})
    events = []
    for number, (a, b) in enumerate(pairwise(edges)):
        events += [ready(f"s{number}", a, size), deleted(f"s{number}", b)]
    con = opened(events, end, periods=[meter.Period("2026-05", start, end)])
    table = meter.account_usage(con)
    assert meter.usage_of(table, "account_id") == {("acc",): size * (end - start)}
    assert table.column("snapshots").to_pylist() == [len(edges) - 1]


def test_a_day_with_a_change_of_clocks_has_23_or_25_hours() -> None:
    """Hours are elapsed time."""
    zone = ZoneInfo("Europe/Berlin")
    for month, day, hours in ((Month(2026, 3), "2026-03-29", 23), (Month(2026, 10), "2026-10-25", 25)):
        days = meter.day_periods([month], zone)
        con = opened([ready("s", 0, 1)], month.bounds(zone)[1], zone.key, days.values())
        by_start = meter.usage_of(meter.account_usage(con), "period_start")
        assert by_start[(days[day].period_start,)] == hours * MICROS_PER_HOUR
        assert len(by_start) == 31


def test_a_snapshot_ends_by_deleted_and_failed_alone() -> None:
    """No other type lies within the range of names by which usage asks for an end."""
    events = [ready(kind, 0, 1) for kind in TYPES]
    events += [reference.Event("/s", f"{kind}-then", kind, kind, reference.DAY, size_bytes=2) for kind in TYPES]
    lifespans = rows(relation(opened(events, 2 * reference.DAY), "lifespans"), "snapshot_id", "ended_at")
    assert {name for name, ended_at in lifespans if ended_at is not None} == {"snapshot.deleted", "snapshot.failed"}
    assert len(lifespans) == len(TYPES)


def test_overflow_is_an_error_never_a_figure() -> None:
    """Usage beyond 38 digits is refused."""
    bounds = (-(10**17) // 2, 10**17 // 2 - 1)
    events = [ready(f"s{number:03}", bounds[0], 2**63 - 1) for number in range(120)]
    con = opened(events, bounds[1], periods=[meter.Period("x", *bounds)])
    exact = 120 * (2**63 - 1) * (bounds[1] - bounds[0])
    assert exact > 10**38
    with pytest.raises(MeteringError, match="38 digits"):
        meter.account_usage(con)
    meter.set_periods(con, [meter.Period("x", bounds[0], bounds[1] + 2)])
    meter.set_now(con, bounds[1] + 2)
    with pytest.raises(MeteringError, match="38 digits"):
        meter.snapshot_usage(con)


def relations() -> list[str]:
    """All but those that read what a maintained state has kept."""
    found = sorted(path.name.removesuffix(".sql") for path in files("metering.usage").iterdir())
    return [name for name in found if has_sql("usage", name) and not name.startswith("kept_")]


def test_figures_leave_as_integers_and_decimals() -> None:
    """No column of any relation is a float."""
    con = opened([ready("s", 0, 1)], 1, periods=[meter.Period("1970-01", 0, 2)])
    meter.anomalies(con)
    meter.account_usage(con, [("1970-01", "a")])
    meter.snapshot_usage(con, ["a"])
    meter.account_usage(con, [("1970-01", "a")])
    meter.stretch_usage(con, ["s"])
    for name in relations():
        table = relation(con, name)
        for field in table.schema:
            assert (
                pa.types.is_string(field.type)
                or field.type == pa.int64()
                or field.type
                in (
                    pa.int32(),
                    pa.decimal128(38, 0),
                    pa.decimal128(37, 0),
                )
            ), (name, field)


def test_every_relation_says_its_grain_first() -> None:
    """An analyst reads the first line and knows what a row is."""
    for name in relations():
        assert sql("usage", name).startswith("-- One "), name


@pytest.mark.parametrize("key", ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Africa/Casablanca"])
def test_offsets_of_the_zone_have_no_gap(key: str) -> None:
    """At every change, and a microsecond before it, the offset is the zone's."""
    zone = ZoneInfo(key)
    spans = offsets(zone, 1_800_000_000_000_000)
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    for (_, until, old), (since, _, new) in pairwise(spans):
        assert to_datetime(until - 1, zone).utcoffset() == timedelta(microseconds=old)
        assert to_datetime(since, zone).utcoffset() == timedelta(microseconds=new)


def test_an_empty_lake_has_no_usage_and_no_anomaly() -> None:
    """A new home answers every question."""
    con = opened([], 0, periods=[meter.Period("1970-01", 0, 1)])
    assert meter.account_usage(con).num_rows == 0
    assert meter.anomalies(con).num_rows == 0
    assert meter.first_month(con, ZoneInfo("UTC")) is None
    assert rows(meter.alive(con), "snapshot_id") == []


@pytest.mark.parametrize("name", [name for name, table in tables().items() if table.stored == "computed"])
def test_relations_are_as_the_dictionary_says(name: str) -> None:
    """Columns, their order and their types."""
    con = opened([], 0)
    meter.anomalies(con)
    found = relation(con, name).schema
    expected = arrow_schema(name)
    assert list(zip(found.names, found.types, strict=True)) == list(zip(expected.names, expected.types, strict=True))
