"""Whatever arrives, in whatever order and batches, the SQL says exactly what the slow reference says."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from zoneinfo import ZoneInfo

import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import Event
from usage_given import instant, opened, relation, rows

from metering.usage import meter
from metering.values import Month

ZONES = ("UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kolkata")
FIRST, LAST = Month(2017, 9), Month(2018, 3)
MAX_SIZE = 2**63 - 1
EDGES = sorted(
    {bound for zone in ZONES for month in meter.months_between(FIRST, LAST) for bound in month.bounds(ZoneInfo(zone))}
    # The clocks of Berlin and of São Paulo change.
    | {instant("2017-10-29T01:00"), instant("2017-10-15T03:00"), instant("2018-02-18T02:00")}
)
EXAMPLES = settings(
    max_examples=int(os.environ.get("METERING_EXAMPLES", "12")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)

instants = st.one_of(
    st.builds(int.__add__, st.sampled_from(EDGES), st.sampled_from((-1, 0, 0, 1, 3_600_000_000))),
    st.sampled_from(EDGES[:3]),
    st.integers(EDGES[0] - reference.DAY, EDGES[-1] + reference.DAY),
)
sizes = st.one_of(st.sampled_from((0, 1, 50 * 10**9, MAX_SIZE - 1, MAX_SIZE)), st.integers(0, MAX_SIZE))
KINDS = (*["ready"] * 3, *["resized"] * 2, "deleted", "failed", "creating", "vm", "retract")
snapshots = st.sampled_from(("s1", "s2", "S1", "é", "\U0001f600"))
vms = st.sampled_from(("vm-1", "vm-2", "s1"))
sources = st.sampled_from(("/a", "/b", "\uffff", "\U0001f600"))
ids = st.sampled_from((*"123456789", "10", "é"))


@st.composite
def event(draw: st.DrawFn) -> Event:
    kind = draw(st.sampled_from(KINDS))
    base = {"source": draw(sources), "id": draw(ids), "time": draw(instants)}
    base["batch"] = draw(st.integers(1, 3))
    if kind == "vm":
        return Event(**base, type="vm.deleted", subject=draw(vms))
    if kind == "retract":
        gone = {"retracted_source": draw(sources), "retracted_id": draw(ids)}
        return Event(**base, type="event.retracted", subject=draw(snapshots), **gone)
    base |= {"type": f"snapshot.{kind}", "subject": draw(snapshots)}
    if kind in ("ready", "resized"):
        base["size_bytes"] = draw(sizes)
    if kind == "ready":
        base |= {
            "account_id": draw(st.sampled_from(("a1", "a2"))),
            "project_id": draw(st.sampled_from(("p1", "p2"))),
            "region": draw(st.sampled_from(("r1", "r2"))),
            "resource_type": draw(st.sampled_from(("vm", "vm", "volume"))),
            "resource_id": draw(vms),
            "name": draw(st.sampled_from((None, "n"))),
        }
    return Event(**base)


streams = st.lists(event(), min_size=1, max_size=14, unique_by=lambda e: e.key)


@st.composite
def period_lists(draw: st.DrawFn, zone: str) -> list[meter.Period]:
    """Whole months, months cut at any instants (as price changes do), or days."""
    first = draw(st.integers(0, 6))
    months = meter.months_between(FIRST.plus(first), FIRST.plus(draw(st.integers(first, 6))))
    whole = meter.month_periods(months, ZoneInfo(zone))
    how = draw(st.sampled_from(("months", "cut", "days")))
    if how == "days":
        return list(meter.day_periods(months[:1], ZoneInfo(zone)).values())
    cuts = draw(st.lists(instants, max_size=3)) if how == "cut" else []
    return [
        meter.Period(month, a, b)
        for month, start, end in whole
        for a, b in pairwise(sorted({start, end, *(cut for cut in cuts if start < cut < end)}))
    ]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Event], str, list[meter.Period], int]:
    zone = draw(st.sampled_from(ZONES))
    return draw(streams), zone, draw(period_lists(zone)), draw(instants)


def _told(ready: Event) -> tuple:
    sku = f"snapshot.{ready.resource_type}"
    return ready.account_id, ready.project_id, ready.region, sku, ready.resource_id, ready.name


def _past(end: int | None, now: int) -> int | None:
    return end if end is not None and end <= now else None


@EXAMPLES
@given(worlds(), st.booleans())
def test_usage_is_what_the_reference_says(world: tuple, keep: bool) -> None:
    """Per snapshot, per account and per project, to the last byte-microsecond."""
    events, zone, periods, now = world
    con = opened(events, now, zone, periods, keep_lifespans=keep)
    expected = reference.snapshot_usage(events, periods, now)
    spans = reference.lifespans(events)

    by_snapshot = rows(meter.snapshot_usage(con), "period_start", "snapshot_id", "byte_micros")
    assert {(start, snapshot): int(usage) for start, snapshot, usage in by_snapshot} == expected
    assert len(by_snapshot) == len(expected)

    accounts: Counter = Counter()
    projects: Counter = Counter()
    counted: Counter = Counter()
    for (start, snapshot), usage in expected.items():
        ready = spans[snapshot].ready
        key = (start, ready.account_id, f"snapshot.{ready.resource_type}", ready.region)
        accounts[key] += usage
        counted[key] += 1
        projects[start, ready.account_id, ready.project_id] += usage
    keys = ("period_start", "account_id", "sku", "region")
    assert meter.usage_of(meter.account_usage(con), *keys) == dict(accounts)
    assert {row[:4]: row[4] for row in rows(meter.account_usage(con), *keys, "snapshots")} == dict(counted)
    project_keys = ("period_start", "account_id", "project_id")
    assert meter.usage_of(meter.project_usage(con), *project_keys) == dict(projects)


@EXAMPLES
@given(worlds())
def test_lifespans_and_stretches_are_what_the_reference_says(world: tuple) -> None:
    """One lifespan per snapshot, with the earliest ready's attributes, and its stretches."""
    events, zone, periods, now = world
    con = opened(events, now, zone, periods)
    spans = reference.lifespans(events)
    found = rows(
        relation(con, "lifespans"),
        *("snapshot_id", "account_id", "project_id", "region", "sku", "resource_id", "name"),
        *("ready_at", "ended_at", "size_bytes"),
    )
    expected = [
        (name, *_told(span.ready), span.ready.time, span.end, span.ready.size_bytes) for name, span in spans.items()
    ]
    assert Counter(found) == Counter(expected)
    stretches = rows(relation(con, "stretches"), "snapshot_id", "stretch_start", "stretch_end", "size_bytes")
    assert Counter(stretches) == Counter(
        (name, *stretch) for name, span in spans.items() for stretch in reference.stretches(span)
    )
    alive = rows(meter.alive(con), "snapshot_id", "size_bytes")
    assert dict(alive) == {
        name: span.size_at(now)
        for name, span in spans.items()
        if span.ready.time <= now and (span.end is None or now < span.end)
    }
    readable = rows(meter.usage_by_snapshot(con), "period_start", "snapshot_id", "size_bytes", "ready_at", "ended_at")
    assert Counter(readable) == Counter(
        (start, name, span.size_at(part[1] - 1), span.ready.time, _past(span.end, now))
        for name, span in spans.items()
        for _, start, end in periods
        if (part := reference.used(span, start, end, now))
    )
    starts = [part[0] for span in spans.values() if (part := reference.used(span, -(2**60), 2**60, now))]
    first = Month.of(min(starts), ZoneInfo(zone)) if starts else None
    assert meter.first_month(con, ZoneInfo(zone)) == first


@EXAMPLES
@given(worlds(), st.data())
def test_anomalies_are_what_the_reference_says(world: tuple, data: st.DataObject) -> None:
    """Kind, snapshot, account and instant of every anomaly."""
    events, zone, periods, now = world
    unpriced = data.draw(
        st.lists(
            st.builds(
                lambda period, account, sku, region: meter.Unpriced(
                    period.month, account, sku, region, period.period_start, period.period_end
                ),
                st.sampled_from(periods),
                st.sampled_from(("a1", "a2")),
                st.sampled_from(("snapshot.vm", "snapshot.volume")),
                st.sampled_from(("r1", "r2")),
            ),
            max_size=2,
            unique_by=lambda gap: (gap.account_id, gap.sku, gap.region),
        )
    )
    con = opened(events, now, zone, periods, keep_lifespans=data.draw(st.booleans()))
    found = meter.anomalies(con, accounts=["a1"], unpriced=unpriced)
    assert Counter(rows(found, "kind", "snapshot_id", "account_id", "occurred_at")) == reference.anomalies(
        events, periods, now, ["a1"], unpriced
    )
    assert all(found.column("detail").to_pylist())


@EXAMPLES
@given(worlds(), st.data())
def test_the_order_of_arrival_and_repeats_change_nothing(world: tuple, data: st.DataObject) -> None:
    """The same events in another order, in other batches, some twice: the same usage."""
    events, zone, periods, now = world
    again = data.draw(st.permutations(events + data.draw(st.lists(st.sampled_from(events), max_size=4))))
    again = [replace(e, batch=data.draw(st.integers(1, 9))) for e in again]
    answers = []
    for stream in (events, again):
        con = opened(stream, now, zone, periods)
        answers.append((meter.usage_by_snapshot(con), meter.account_usage(con)))
    assert answers[0] == answers[1]


@EXAMPLES
@given(worlds(), st.integers(0, 3))
def test_as_of_a_batch_later_batches_do_not_count(world: tuple, through: int) -> None:
    """Retractions too count only from the batch that brought them."""
    events, zone, periods, now = world
    known = [e for e in events if e.batch <= through]
    con = opened(known, now, zone, periods)
    found = rows(meter.snapshot_usage(con), "period_start", "snapshot_id", "byte_micros")
    assert {row[:2]: int(row[2]) for row in found} == reference.snapshot_usage(known, periods, now)


@EXAMPLES
@given(worlds())
def test_adjacent_periods_add_up_exactly(world: tuple) -> None:
    """Whatever the months are cut into, the parts make the whole."""
    events, zone, periods, now = world
    con = opened(events, now, zone, periods)
    keys = ("month", "account_id", "sku", "region")
    parts = meter.usage_of(meter.account_usage(con), *keys)
    bounds = {month: Month.parse(month).bounds(ZoneInfo(zone)) for month, _, _ in periods}
    meter.set_periods(con, [meter.Period(month, *bound) for month, bound in bounds.items()])
    assert meter.usage_of(meter.account_usage(con), *keys) == parts
