"""Each rule of metering as a table: given these events, expect this usage and these anomalies."""

from __future__ import annotations

import tomllib
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import reference
from usage_given import instant, months, opened, parse_events, relation, rows

from metering.usage import meter
from metering.values import MICROS_PER_HOUR, format_instant, parse_instant

CASES = tomllib.loads((Path(__file__).parent / "cases/usage/metering.toml").read_text("utf-8"))["case"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["law"])
def test_case(case: dict[str, Any]) -> None:
    """What the table says is what SQL says, and what the reference says."""
    events = parse_events(case["given"])
    now = instant(case.get("now", "2026-07-01"))
    zone = case.get("zone", "UTC")
    periods = months(case.get("first", "2026-04"), case.get("last", "2026-10"), zone)
    con = opened(events, now, zone, periods)

    usage = meter.usage_of(meter.snapshot_usage(con), "month", "snapshot_id")
    assert usage == _usage(case.get("usage", ""))
    month_of = {period.period_start: period.month for period in periods}
    said = reference.snapshot_usage(events, periods, now)
    assert usage == {(month_of[start], snapshot): value for (start, snapshot), value in said.items()}
    if "accounts" in case:
        assert meter.usage_of(meter.account_usage(con), "month", "account_id") == _usage(case["accounts"])

    known = case.get("known", sorted({e.account_id for e in events if e.account_id}))
    found = meter.anomalies(con, accounts=known)
    expected = Counter(_anomaly(line) for line in case.get("anomalies", "").strip().splitlines())
    assert Counter(rows(found, "kind", "snapshot_id", "account_id", "occurred_at")) == expected
    assert reference.anomalies(events, periods, now, known) == expected


def _usage(text: str) -> dict[tuple[str, str], Fraction]:
    lines = [line.split() for line in text.strip().splitlines()]
    return {(month, who): Fraction(hours) * MICROS_PER_HOUR for month, who, hours in lines}


def _anomaly(line: str) -> tuple[str, str | None, str | None, int]:
    kind, snapshot, account, time = line.split()
    return kind, _known(snapshot), _known(account), instant(time)


def _known(text: str) -> str | None:
    return None if text == "-" else text


PRICELESS = ("acc", "snapshot.vm", "reg")


def test_no_price_is_reported_per_snapshot_and_unpriced_period() -> None:
    """Only usage inside the unpriced period, up to now, of that account, SKU and region counts."""
    events = parse_events(
        """
        2026-05-01 ready before
        2026-05-10 deleted before
        2026-05-01 ready s1
        2026-05-12 resized s1 size_bytes=5
        2026-05-15 ready s2
        2026-05-15 ready other account_id=other
        2026-05-15 ready volume resource_type=volume
        2026-05-15 ready elsewhere region=elsewhere
        2026-06-15 ready after
        """
    )
    con = opened(events, instant("2026-06-20"), periods=months("2026-05", "2026-06"))
    gaps = [
        meter.Unpriced("2026-05", *PRICELESS, instant("2026-05-10"), instant("2026-06-01")),
        meter.Unpriced("2026-06", *PRICELESS, instant("2026-06-01"), instant("2026-06-15")),
    ]
    found = meter.anomalies(con, accounts=["acc", "other"], unpriced=gaps)
    assert rows(found, "kind", "snapshot_id", "account_id", "occurred_at") == [
        ("no_price", "s1", "acc", instant("2026-05-10")),
        ("no_price", "s1", "acc", instant("2026-06-01")),
        ("no_price", "s2", "acc", instant("2026-05-15")),
        ("no_price", "s2", "acc", instant("2026-06-01")),
    ]


def test_conflicts_are_reported_until_put_aside() -> None:
    """A conflict names the snapshot and who pays; one on a VM's deletion, each vm snapshot of the VM."""
    events = parse_events(
        """
        2026-05-01 ready s1 id=1 resource_id=x account_id=payer
        2026-05-01 ready s2 id=2 resource_id=x account_id=other
        2026-05-01 ready s3 id=3 resource_id=x resource_type=volume
        2026-06-01 vm-deleted x id=4
        """
    )
    line = {"reason": "conflict", "source": "/s", "ingested_at": 7}
    quarantine = [
        {**line, "id": "q1", "event_id": "1", "subject": "s1", "account_id": "claimed"},
        {**line, "id": "q2", "event_id": "4", "subject": "x"},
        {**line, "id": "q3", "event_id": "2", "subject": "s2"},
        {"id": "q4", "reason": "bad_time"},
        {**line, "id": "q5", "event_id": "2", "subject": "s9", "account_id": "claimed"},
    ]
    con = opened(events, instant("2026-07-01"), quarantine=quarantine)
    found = meter.anomalies(con, accounts=["payer", "other", "acc"], resolved=["q3"])
    assert rows(found, "kind", "snapshot_id", "account_id", "occurred_at") == [
        ("conflict", "s1", "payer", 7),
        ("conflict", "s1", "payer", 7),
        ("conflict", "s2", "other", 7),
        ("conflict", "s9", "claimed", 7),
    ]


@pytest.mark.parametrize(
    ("zone", "ready", "name"),
    [
        ("UTC", "2026-05-03T23:59:59.999999Z", "vm-vm-9-05-03-26"),
        ("UTC", "2026-05-04T00:00:00Z", "vm-vm-9-05-04-26"),
        ("Europe/Berlin", "2026-05-03T21:59:59.999999Z", "vm-vm-9-05-03-26"),
        ("Europe/Berlin", "2026-05-03T22:00:00Z", "vm-vm-9-05-04-26"),
        ("Europe/Berlin", "2026-12-31T22:59:59.999999Z", "vm-vm-9-12-31-26"),
        ("Europe/Berlin", "2026-12-31T23:00:00Z", "vm-vm-9-01-01-27"),
        ("America/Sao_Paulo", "2018-11-04T02:59:59.999999Z", "vm-vm-9-11-03-18"),
        ("America/Sao_Paulo", "2018-11-04T03:00:00Z", "vm-vm-9-11-04-18"),
        ("Asia/Kolkata", "2026-05-03T18:30:00Z", "vm-vm-9-05-04-26"),
        ("UTC", "1969-12-31T23:59:59.999999Z", "vm-vm-9-12-31-69"),
    ],
)
def test_a_snapshot_without_a_name_has_the_platforms_default(zone: str, ready: str, name: str) -> None:
    """The day is that of the billing time zone."""
    (event,) = parse_events("2026-05-01 ready s1 resource_id=vm-9")
    event = reference.Event(**{**vars(event), "time": parse_instant(ready)})
    con = opened([event], instant("2027-07-01"), zone)
    assert rows(relation(con, "names"), "snapshot_id", "name") == [("s1", name)]


def test_usage_by_snapshot_shows_name_last_size_ready_and_end() -> None:
    """The size is the last in the month; an end after now does not show yet."""
    events = parse_events(
        """
        2026-05-01 ready s1 name=given size_bytes=1
        2026-05-20 resized s1 size_bytes=2
        2026-06-10 resized s1 size_bytes=3
        2026-06-25 resized s1 size_bytes=4
        2026-06-28 deleted s1
        2026-05-30 ready s2 resource_type=volume resource_id=v7
        2026-06-20 deleted s2
        """
    )
    con = opened(events, instant("2026-06-20"), periods=months("2026-05", "2026-06"))
    found = rows(meter.usage_by_snapshot(con), "month", "snapshot_id", "name", "size_bytes", "ready_at", "ended_at")
    s1, s2 = instant("2026-05-01"), instant("2026-05-30")
    assert found == [
        ("2026-05", "s1", "given", 2, s1, None),
        ("2026-05", "s2", "volume-v7-05-30-26", 1, s2, instant("2026-06-20")),
        ("2026-06", "s1", "given", 3, s1, None),
        ("2026-06", "s2", "volume-v7-05-30-26", 1, s2, instant("2026-06-20")),
    ]


def test_what_is_alive_stays_alive_to_the_months_end() -> None:
    """Usage to now and what remains make the forecast; what has ended or is not ready yet is not ahead."""
    events = parse_events(
        """
        2026-06-01 ready s1 size_bytes=2
        2026-06-02 resized s1 size_bytes=5
        2026-06-25 deleted s1
        2026-06-01 ready s2
        2026-06-11 deleted s2
        2026-06-12 ready s3
        """
    )
    con = opened(events, instant("2026-06-11"), periods=months("2026-06", "2026-07"))
    past = 1 * 10 * reference.DAY + 2 * reference.DAY + 5 * 9 * reference.DAY
    assert rows(meter.expected_usage(con), "month", "account_id", "byte_micros", "remaining") == [
        ("2026-06", "acc", past, 5 * 20 * reference.DAY),
        ("2026-07", "acc", None, 5 * 31 * reference.DAY),
    ]


def test_a_stretch_is_shown_clipped_to_the_period() -> None:
    """What `explain` prints: from when to when, at what size."""
    events = parse_events(
        """
        2026-05-20 ready s1 size_bytes=2
        2026-06-10 resized s1 size_bytes=3
        2026-06-20 deleted s1
        2026-05-20 ready s2
        """
    )
    con = opened(events, instant("2026-07-01"), periods=months("2026-06", "2026-06"))
    found = rows(meter.stretch_usage(con, ["s1"]), "used_from", "used_until", "size_bytes", "snapshots")
    assert [(format_instant(a), format_instant(b), size, count) for a, b, size, count in found] == [
        ("2026-06-01T00:00:00Z", "2026-06-10T00:00:00Z", 2, 1),
        ("2026-06-10T00:00:00Z", "2026-06-20T00:00:00Z", 3, 0),
    ]


def test_snapshot_usage_of_chosen_accounts() -> None:
    """Only the accounts asked for come back."""
    events = parse_events("2026-05-20 ready s1 account_id=a\n2026-05-20 ready s2 account_id=b")
    con = opened(events, instant("2026-07-01"), periods=months("2026-05", "2026-05"))
    assert rows(meter.snapshot_usage(con, ["b", "c"]), "snapshot_id") == [("s2",)]
    assert meter.snapshot_usage(con, []).num_rows == 0
