"""Metering as the contract words it, slow and exact: plain Python over a list of events, no project code.

It is written from the rules, one function a rule, so that what the engine computes can be compared with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

DAY = 24 * 3_600_000_000


@dataclass(frozen=True)
class Event:
    """One accepted event."""

    source: str
    id: str
    type: str
    subject: str
    time: int
    batch: int = 1
    account_id: str | None = None
    project_id: str | None = None
    region: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    name: str | None = None
    size_bytes: int | None = None
    retracted_source: str | None = None
    retracted_id: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.source, self.id


@dataclass(frozen=True)
class Lifespan:
    """A snapshot that became ready: the event that counts, the end, and the resizes that have an effect."""

    ready: Event
    end: int | None
    resizes: tuple[Event, ...]

    @property
    def metered(self) -> bool:
        return self.end is None or self.end > self.ready.time

    def size_at(self, instant: int) -> int:
        """The size at an instant of the lifespan."""
        before = [event for event in self.resizes if event.time <= instant]
        if not before:
            return _size(self.ready)
        latest = max(event.time for event in before)
        return max(_size(event) for event in before if event.time == latest)


def effective(events: Iterable[Event]) -> list[Event]:
    """The events that count: a retracted one never was, and a retraction cannot be retracted."""
    events = list(events)
    gone = {(e.retracted_source, e.retracted_id) for e in events if e.type == "event.retracted"}
    return [e for e in events if e.type != "event.retracted" and e.key not in gone]


def lifespans(events: Iterable[Event]) -> dict[str, Lifespan]:
    """Every snapshot that became ready."""
    counting = effective(events)
    found = {}
    for snapshot in {e.subject for e in counting if e.type == "snapshot.ready"}:
        mine = [e for e in counting if e.subject == snapshot and e.type.startswith("snapshot.")]
        ready = min((e for e in mine if e.type == "snapshot.ready"), key=lambda e: (e.time, *e.key))
        ends = [e.time for e in mine if e.type in ("snapshot.deleted", "snapshot.failed")]
        if ready.resource_type == "vm":
            ends += [e.time for e in counting if e.type == "vm.deleted" and e.subject == ready.resource_id]
        end = min(ends, default=None)
        resizes = tuple(
            e for e in mine if e.type == "snapshot.resized" and ready.time <= e.time and (end is None or e.time < end)
        )
        found[snapshot] = Lifespan(ready, end, resizes)
    return found


def stretches(lifespan: Lifespan) -> list[tuple[int, int | None, int]]:
    """The stretches of constant size: start, end, size."""
    if not lifespan.metered:
        return []
    starts = sorted({lifespan.ready.time, *(e.time for e in lifespan.resizes)})
    ends: list[int | None] = [*starts[1:], lifespan.end]
    return [(start, end, lifespan.size_at(start)) for start, end in zip(starts, ends, strict=True)]


def used(lifespan: Lifespan, start: int, end: int, now: int) -> tuple[int, int] | None:
    """The part of a period in which a snapshot was metered up to now; None where there is none."""
    since = max(lifespan.ready.time, start)
    until = min(now if lifespan.end is None else lifespan.end, now, end)
    return (since, until) if since < until else None


def byte_micros(lifespan: Lifespan, start: int, end: int, now: int) -> int | None:
    """Σ bytes × microseconds of a snapshot in a period; None where it was not metered in it."""
    part = used(lifespan, start, end, now)
    if part is None:
        return None
    cuts = sorted({*part, *(e.time for e in lifespan.resizes if part[0] < e.time < part[1])})
    return sum(lifespan.size_at(a) * (b - a) for a, b in pairwise(cuts))


def snapshot_usage(
    events: Iterable[Event], periods: Sequence[tuple[str, int, int]], now: int
) -> dict[tuple[int, str], int]:
    """Byte-microseconds by period start and snapshot."""
    spans = lifespans(events)
    return {
        (start, snapshot): usage
        for snapshot, span in spans.items()
        for _, start, end in periods
        if (usage := byte_micros(span, start, end, now)) is not None
    }


Anomaly = tuple[str, str | None, str | None, int]
"""Kind, snapshot, account, instant."""


def anomalies(
    events: Iterable[Event],
    periods: Sequence[tuple[str, int, int]],
    now: int,
    accounts: Iterable[str] = (),
    unpriced: Iterable[tuple[str, str, str, str, int, int]] = (),
) -> Counter[Anomaly]:
    """Every anomaly but conflicts, which only ingest can see."""
    events = list(events)
    counting = effective(events)
    spans = lifespans(events)
    found: Counter[Anomaly] = Counter()

    def report(kind: str, event: Event, instant: int | None = None) -> None:
        snapshot = event.subject if event.type.startswith("snapshot.") else None
        span = spans.get(snapshot or "")
        account = span.ready.account_id if span else None
        found[kind, snapshot, account, event.time if instant is None else instant] += 1

    created = {e.subject for e in counting if e.type == "snapshot.creating"}
    for event in counting:
        span = spans.get(event.subject)
        if event.type == "snapshot.ready" and span and event.key != span.ready.key:
            report("ready_twice", event)
            if span.end is not None and event.time >= span.end:
                report("ready_after_end", event)
        if event.type == "snapshot.deleted" and not span:
            report("end_without_ready", event)
        if event.type == "snapshot.failed" and not span and event.subject not in created:
            report("end_without_ready", event)
        if event.type == "snapshot.resized" and (not span or event not in span.resizes):
            report("resized_outside_lifespan", event)
    for span in spans.values():
        if not span.metered:
            report("end_before_ready", span.ready, span.end)
        parts = [part for _, a, b in periods if (part := used(span, a, b, now))]
        if parts and span.ready.account_id not in set(accounts):
            report("unknown_account", span.ready, min(parts)[0])
        for _, account, sku, region, a, b in unpriced:
            mine = (span.ready.account_id, f"snapshot.{span.ready.resource_type}", span.ready.region)
            overlaps = [max(part[0], a) for part in parts if max(part[0], a) < min(part[1], b)]
            if mine == (account, sku, region) and overlaps:
                report("no_price", span.ready, min(overlaps))
    for snapshot in created:
        mine_too = [e for e in counting if e.subject == snapshot and e.type.startswith("snapshot.")]
        creating = min((e for e in mine_too if e.type == "snapshot.creating"), key=lambda e: e.time)
        fates = {e.type for e in mine_too} & {"snapshot.ready", "snapshot.failed", "snapshot.deleted"}
        if not fates and now - creating.time >= DAY:
            report("stuck_creating", creating)
    for event in events:
        if event.time > now and (event in counting or event.type == "event.retracted"):
            report("future_event", event)
    return found


def _size(event: Event) -> int:
    assert event.size_bytes is not None
    return event.size_bytes
