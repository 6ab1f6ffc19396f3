"""A provider for rehearsals: what really happens, what is told of it and when, and what it must cost.

Plain Python without project code: the tally comes from what happened, not from the events that told of it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

DAY = 24 * 3600 * 10**6
GB_HOUR = 10**9 * 3600 * 10**6
DIGITS = {"JPY": 0, "KWD": 3}
"""Digits after the point; 2 where a currency is not named."""


class Account(NamedTuple):
    """Who uses snapshots; `late` ones are told of late, `corrected` ones are quarrelled with."""

    id: str
    currency: str
    tax_rate: str
    card: str
    temper: str = ""
    snapshots_a_week: int = 2


class Price(NamedTuple):
    """A row of the price list, for every account."""

    sku: str
    region: str
    currency: str
    price: str
    since: date


class Key(NamedTuple):
    """What a line is for."""

    account: str
    month: str
    sku: str
    region: str
    price: Decimal


@dataclass
class Snapshot:
    """A snapshot as it really was."""

    id: str
    account: str
    region: str
    kind: str
    resource: str
    ready: int
    sizes: list[tuple[int, int]]
    end: int | None = None


@dataclass
class World:
    """What happens day by day."""

    random: Random
    accounts: list[Account]
    prices: list[Price]
    snapshots: list[Snapshot] = field(default_factory=list)
    waiting: list[tuple[date, dict[str, Any]]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    count: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    _numbers: int = 0

    def live(self, day: date, *, settles: bool = False) -> None:
        """A day passes; with `settles` nothing of it is told late."""
        start = instant(day)
        for account in self.accounts:
            late = account.temper == "late" and not settles
            mine = [s for s in self.snapshots if s.account == account.id and s.end is None and s.ready < start]
            gone = self._vm_ends(day, mine, late) if self.random.random() < 0.01 else set()
            for snapshot in mine:
                if snapshot.id not in gone:
                    self._change(day, snapshot, late)
            if self.random.random() < account.snapshots_a_week / 7:
                self._begin(day, account, late)

    def lines(self, day: date) -> list[str]:
        """What is told on a day: all that is due, some of it twice, some of it again."""
        due = [event for on, event in self.waiting if on <= day]
        self.waiting = [(on, event) for on, event in self.waiting if on > day]
        found = [json.dumps(event) for event in due]
        self.count["events"] += len(found)
        again = [line for line in self.random.sample(self.told, min(3, len(self.told))) if self.random.random() < 0.3]
        self.told = [*self.told, *found][-500:]
        self.count["repeats"] += len(again)
        mixed = [*found, *again]
        self.random.shuffle(mixed)
        return mixed

    def _begin(self, day: date, account: Account, late: bool) -> None:
        kind = self.random.choice(("vm", "vm", "volume"))
        at, number = self._moment(day), self._number()
        resource = f"{kind}-{account.id}-{self.random.randrange(3)}-{day.year}-{day.month}"
        if kind == "vm" and any(s.resource == resource and s.end is not None for s in self.snapshots):
            resource += f"-{number}"
        size = self._size(account)
        region = self.random.choice(("eu", "us"))
        snapshot = Snapshot(f"snap-{number}", account.id, region, kind, resource, at, [(at, size)])
        self.snapshots.append(snapshot)
        data = {"account_id": account.id, "project_id": f"prj-{number % 3}", "region": region}
        data |= {"resource_type": kind, "resource_id": resource, "size_bytes": size}
        self._tell(day, "snapshot.ready", snapshot.id, at, data, late)

    def _change(self, day: date, snapshot: Snapshot, late: bool) -> None:
        chance, at = self.random.random(), self._moment(day)
        if chance < 0.04:
            snapshot.end = at
            self._tell(day, "snapshot.deleted", snapshot.id, at, {}, late)
        elif chance < 0.06:
            snapshot.sizes.append((at, self.random.randrange(10**9, 10**12)))
            self._tell(day, "snapshot.resized", snapshot.id, at, {"size_bytes": snapshot.sizes[-1][1]}, late)
        elif chance < 0.07 and late:
            self._mistake(day, snapshot, at)

    def _mistake(self, day: date, snapshot: Snapshot, at: int) -> None:
        """A resize that never was, and that is taken back days or weeks later."""
        event = self._tell(day, "snapshot.resized", snapshot.id, at, {"size_bytes": 10**13}, False)
        back = {"retracted_source": event["source"], "retracted_id": event["id"]}
        on = day + timedelta(days=self.random.randrange(1, 50))
        self._tell(on, "event.retracted", "a mistake", instant(on), back, False)
        self.count["retracted"] += 1

    def _vm_ends(self, day: date, mine: list[Snapshot], late: bool) -> set[str]:
        vms = [s for s in mine if s.kind == "vm"]
        if not vms:
            return set()
        resource, at = self.random.choice(vms).resource, self._moment(day)
        ended = [s for s in vms if s.resource == resource]
        for snapshot in ended:
            snapshot.end = at
        self._tell(day, "vm.deleted", resource, at, {}, late)
        return {snapshot.id for snapshot in ended}

    def _tell(self, day: date, kind: str, subject: str, at: int, data: dict[str, Any], late: bool) -> dict[str, Any]:
        event: dict[str, Any] = {"specversion": "1.0", "id": f"e-{self._number()}", "source": "/compute", "type": kind}
        event |= {"subject": subject, "time": rfc3339(at), "data": data}
        delay = 0
        if late and self.random.random() < 0.2:
            delay = self.random.randrange(1, 60)
            self.count["late"] += 1
        self.waiting.append((day + timedelta(days=1 + delay), event))
        return event

    def _moment(self, day: date) -> int:
        return instant(day) + self.random.randrange(DAY)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _size(self, account: Account) -> int:
        return self.random.randrange(10**8, 10**9) if account.temper == "tiny" else self.random.randrange(10**9, 10**12)

    # What it must cost

    def tally(self, months: list[str], known: set[str]) -> dict[Key, int]:
        """What the usage of these months costs, by the key of a line, each rounded once, in minor units."""
        currency = {account.id: account.currency for account in self.accounts if account.id in known}
        usage: defaultdict[Key, int] = defaultdict(int)
        for snapshot in self.snapshots:
            if snapshot.account in currency:
                for month in months:
                    for key, used in self._used(snapshot, month, currency[snapshot.account]):
                        usage[key] += used
        return {
            key: half_up(Fraction(used, GB_HOUR) * Fraction(key.price) * 10 ** DIGITS.get(currency[key.account], 2))
            for key, used in usage.items()
        }

    def _used(self, snapshot: Snapshot, month: str, currency: str) -> Iterator[tuple[Key, int]]:
        first, after = bounds(month)
        start, end = max(first, snapshot.ready), min(after, snapshot.end or after)
        sku = f"snapshot.{snapshot.kind}"
        rows = [p for p in self.prices if (p.sku, p.currency) == (sku, currency) and p.region in ("", snapshot.region)]
        cuts = {start, end, *(at for at, _ in snapshot.sizes), *(instant(row.since) for row in rows)}
        for a, b in pairwise(sorted(cut for cut in cuts if start <= cut <= end)):
            size = max(((at, size) for at, size in snapshot.sizes if at <= a), key=lambda s: s[0])[1]
            in_force = max(
                (row for row in rows if instant(row.since) <= a), key=lambda row: (row.region != "", row.since)
            )
            yield Key(snapshot.account, month, sku, snapshot.region, Decimal(in_force.price)), size * (b - a)


def half_up(value: Fraction) -> int:
    """The nearest integer, halves away from zero."""
    whole = (abs(value) * 2 + 1) // 2
    return int(whole if value >= 0 else -whole)


def instant(day: date) -> int:
    """The first microsecond of a day."""
    return (day - date(1970, 1, 1)).days * DAY


def bounds(month: str) -> tuple[int, int]:
    """The first instant of a month, and of the next."""
    first = date.fromisoformat(f"{month}-01")
    return instant(first), instant((first + timedelta(days=31)).replace(day=1))


def rfc3339(at: int) -> str:
    """An instant as producers write it."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
