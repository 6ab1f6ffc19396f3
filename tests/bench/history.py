"""What happened in a made-up cloud: events as columns of integers, from which texts are made only when written.

A snapshot is a number; everything about it is drawn from that number. So a history can be made in pieces, and two
histories of different length can share the snapshots that are alive at their end and the night that follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from metering.values import MICROS_PER_DAY, MICROS_PER_HOUR, Month

from .draws import Ints, below, chosen, words, zipf

TYPES = (
    "event.retracted",
    "snapshot.creating",
    "snapshot.deleted",
    "snapshot.failed",
    "snapshot.ready",
    "snapshot.resized",
    "vm.deleted",
)
"""In code-point order, so that a type's position sorts as its text."""
RETRACTED, CREATING, DELETED, FAILED, READY, RESIZED, VM_DELETED = range(7)

CREATING_SLOT, READY_SLOT, END_SLOT, RESIZE_SLOT, READY_AGAIN_SLOT, SAME_INSTANT_SLOT, END_AGAIN_SLOT = range(7)
RETRACTION_SLOT = 7
SLOTS = 8
"""A snapshot's events are told apart by slot; number × SLOTS + slot names an event."""

REGIONS = ("us-east", "us-west", "eu-central", "eu-north", "ap-south")
ACCOUNTS = 20_000
SNAPSHOTS_PER_RESOURCE = 8
EVENTS_PER_1000_SNAPSHOTS = 2_900
PIECE = 2**20

LASTING = 2**40
"""Snapshots from this number on never end; see `History.alive`."""
NEW = 2**41
"""Snapshots from this number on are made in the night after the history."""
OF_VM = 2**59
"""Deletions of VMs are named by number × SLOTS from here on."""

_MINUTE = 60_000_000
_LIVES = (2,) * 6 + (6,) * 4 + (14,) * 3 + (10, 10, 7, 6, 6, 5, 4, 3)
"""Weights of lives of 1, 2, 4, … minutes, up to four years."""
_SIZES = (1, 2, 4, 8, 12, 16, 20, 20, 12, 5, 1)
"""Weights of sizes of 1, 2, 4, … GiB, up to a TiB."""
_REGION_WEIGHTS = (50, 20, 15, 10, 5)

_ZIPF = zipf(ACCOUNTS)


@dataclass(frozen=True)
class Events:
    """Events as columns: type (a position in TYPES), name (see SLOTS), snapshot or VM, instant, bytes, and for a
    retraction the name of the event that never was."""

    type: NDArray[np.int8]
    name: Ints
    subject: Ints
    time: Ints
    size_bytes: Ints
    retracts: Ints

    def __len__(self) -> int:
        return len(self.type)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Events:
        """Some of the events."""
        return Events(*(column[rows] for column in self.columns()))

    def columns(self) -> tuple[NDArray[np.int8], Ints, Ints, Ints, Ints, Ints]:
        """The columns in their order."""
        return self.type, self.name, self.subject, self.time, self.size_bytes, self.retracts

    def sorted(self) -> Events:
        """By type and time, as the lake keeps a batch."""
        return self.take(np.lexsort((self.name, self.time, self.type)))


def join(parts: list[Events]) -> Events:
    """The events of all parts."""
    return Events(*(np.concatenate(columns) for columns in zip(*(p.columns() for p in parts), strict=True)))


@dataclass(frozen=True)
class History:
    """About `events` events over whole months; with `alive`, exactly so many snapshots live at the end.

    Without `alive` lives end when they end. With it everything else has ended before the history does, and the
    lasting snapshots are the same in a history of any length, and so is its `night`.
    """

    events: int
    seed: int = 1
    first: Month = field(default=Month(2023, 1))
    months: int = 36
    alive: int | None = None

    @cached_property
    def start(self) -> int:
        """The first instant."""
        return self._bound(self.first)

    @cached_property
    def end(self) -> int:
        """The first instant after it."""
        return self._bound(self.first.plus(self.months))

    @property
    def last_month(self) -> Month:
        """The month before the end."""
        return self.first.plus(self.months - 1)

    @property
    def snapshots(self) -> int:
        """How many snapshots come and go by their own lives."""
        lasting = 2 * (self.alive or 0)
        return max(1, (self.events - lasting) * 1000 // EVENTS_PER_1000_SNAPSHOTS)

    @property
    def resources(self) -> int:
        """How many VMs and volumes they are copies of."""
        return self.snapshots // SNAPSHOTS_PER_RESOURCE + 1

    @staticmethod
    def _bound(month: Month) -> int:
        from datetime import UTC

        return month.bounds(UTC)[0]

    def draw(self, stream: str, numbers: Ints) -> NDArray[np.uint64]:
        """64 bits for each number."""
        return words(self.seed, stream, numbers)

    # What a number says

    def resource(self, snapshot: Ints) -> Ints:
        """The VM or volume that a snapshot is a copy of: its copies are spread over the whole history."""
        own = snapshot >= LASTING
        return np.where(own, snapshot // SNAPSHOTS_PER_RESOURCE, snapshot % self.resources)

    def region(self, resource: Ints) -> Ints:
        """Positions in REGIONS."""
        return chosen(self.draw("region", resource), _REGION_WEIGHTS)

    def account(self, resource: Ints) -> Ints:
        """Ranks of accounts: few have much, many have little."""
        return chosen(self.draw("account", resource), _ZIPF)

    def vm_deleted_at(self, resource: Ints) -> Ints:
        """When a VM is deleted; for half of them that is after the end."""
        at = self.start + below(self.draw("vm.deleted", resource), 2 * (self.end - self.start))
        return np.where(resource >= LASTING // SNAPSHOTS_PER_RESOURCE, 2**62, at)

    def ready_at(self, snapshot: Ints) -> Ints:
        """When its capture is done, or has failed: in the order of numbers, but for a minute or two."""
        return self.created_at(snapshot) + _MINUTE + below(self.draw("capture", snapshot), _MINUTE)

    def created_at(self, snapshot: Ints) -> Ints:
        """When its capture begins."""
        step = (self.end - self.start) // self.snapshots
        at = self.start + snapshot * step + below(self.draw("created", snapshot), step)
        if self.alive:
            # The last days are left to the night.
            usable = self.end - self.start - 2 * MICROS_PER_DAY
            lasting = self.start + (snapshot - LASTING) * (usable // self.alive)
            at = np.where(snapshot >= LASTING, lasting, self.start + (at - self.start) // 1000 * 998)
            tonight = self.end + below(self.draw("tonight", snapshot), MICROS_PER_DAY // 2)
            at = np.where(snapshot >= NEW, tonight, at)
        return at

    def is_vm(self, snapshot: Ints) -> NDArray[np.bool_]:
        """Whether it is a copy of a VM; a VM that is gone can't be copied."""
        gone = self.ready_at(snapshot) >= self.vm_deleted_at(self.resource(snapshot))
        return (below(self.draw("kind", snapshot), 100) < 60) & ~gone

    def size_bytes(self, name: Ints) -> Ints:
        """The size that an event tells, a multiple of a disk block."""
        octave = np.int64(2**18) << chosen(self.draw("octave", name), _SIZES)
        return (octave + below(self.draw("size", name), octave)) * 4096

    # What happens

    def pieces(self) -> Iterator[Events]:
        """All events, a million snapshots at a time."""
        for first in range(0, self.snapshots, PIECE):
            yield self._lives(np.arange(first, min(first + PIECE, self.snapshots)))
        for first in range(0, self.alive or 0, PIECE):
            yield self._lives(LASTING + np.arange(first, min(first + PIECE, self.alive or 0)))
        for first in range(0, self.resources, PIECE):
            vms = np.arange(first, min(first + PIECE, self.resources))
            at = self.vm_deleted_at(vms)
            yield self._events(VM_DELETED, OF_VM + vms * SLOTS, vms, at).take(at < self.end)

    def night(self, events: int) -> Events:
        """A night's events after the end: half of them of new snapshots, half deletions of lasting ones."""
        if not self.alive or self.alive < events // 2:
            raise ValueError("a night needs a history with at least half as many snapshots alive")
        new = NEW + np.arange(events // 4)
        gone = LASTING + np.arange(events // 2) * (self.alive // (events // 2))
        ended = self.end + below(self.draw("night", gone), MICROS_PER_DAY)
        return join(
            [
                self._events(CREATING, new * SLOTS + CREATING_SLOT, new, self.created_at(new)),
                self._events(READY, new * SLOTS + READY_SLOT, new, self.ready_at(new)),
                self._events(DELETED, gone * SLOTS + END_SLOT, gone, ended),
            ]
        )

    def _lives(self, snapshot: Ints) -> Events:
        """The events of some snapshots up to the end."""
        lasting = snapshot >= LASTING
        rare = below(self.draw("rare", snapshot), 100_000)
        ready_at = self.ready_at(snapshot)
        fails = (below(self.draw("fails", snapshot), 100) == 0) & ~lasting
        life = self._life(snapshot, ready_at)
        own_end = ready_at + life
        vm_end = np.where(self.is_vm(snapshot), self.vm_deleted_at(self.resource(snapshot)), 2**62)
        # One in ten thousand ends before it began.
        own_end = np.where(rare < 10, ready_at - 1, own_end)
        ends = ~fails & ~lasting & (own_end < np.minimum(vm_end, self.end))
        late = ready_at + below(self.draw("later", snapshot), np.minimum(life, self.end - ready_at))
        again = (rare >= 100) & (rare < 300) & ~fails
        # One in four comes at the same instant, with another size.
        again_at = np.where(rare < 150, ready_at, late)
        resized = (below(self.draw("resized", snapshot), 50) == 0) & ~fails
        retracts = (rare >= 300) & (rare < 350) & ~lasting & ~fails
        slot = np.where(resized, RESIZE_SLOT, np.where(ends & (self.alive is None), END_SLOT, READY_SLOT))

        def at(kind: int, slot: int, time: Ints, where: NDArray[np.bool_]) -> Events:
            rows = np.flatnonzero(where & (time < self.end))
            return self._events(kind, snapshot[rows] * SLOTS + slot, snapshot[rows], time[rows])

        everyone = np.ones(len(snapshot), np.bool_)
        ended_by_failure = rare % 2000 == 999
        parts = [
            at(CREATING, CREATING_SLOT, self.created_at(snapshot), everyone),
            at(READY, READY_SLOT, ready_at, ~fails),
            at(FAILED, END_SLOT, ready_at, fails),
            at(DELETED, END_SLOT, own_end, ends & ~ended_by_failure),
            at(FAILED, END_SLOT, own_end, ends & ended_by_failure),
            at(RESIZED, RESIZE_SLOT, late, resized),
            at(RESIZED, SAME_INSTANT_SLOT, late, resized & (rare % 64 == 0)),
            at(READY, READY_AGAIN_SLOT, again_at, again),
            at(DELETED, END_AGAIN_SLOT, own_end + MICROS_PER_HOUR, ends & (rare % 1000 == 500)),
        ]
        rows = np.flatnonzero(retracts & (ready_at < self.end - MICROS_PER_DAY))
        numbers = snapshot[rows]
        name = numbers * SLOTS + RETRACTION_SLOT
        time = ready_at[rows] + MICROS_PER_HOUR
        parts.append(self._events(RETRACTED, name, numbers, time, numbers * SLOTS + slot[rows]))
        return join(parts)

    def _life(self, snapshot: Ints, ready_at: Ints) -> Ints:
        octave = np.int64(_MINUTE) << chosen(self.draw("octaves", snapshot), _LIVES)
        life = octave + below(self.draw("life", snapshot), octave)
        if self.alive is not None:
            life = np.where(snapshot >= LASTING, life, 1 + life % np.maximum(self.end - ready_at - 2, 1))
        return life

    def _events(self, kind: int, name: Ints, subject: Ints, time: Ints, retracts: Ints | None = None) -> Events:
        sized = kind in (READY, RESIZED)
        return Events(
            np.full(len(name), kind, np.int8),
            name,
            subject,
            time,
            self.size_bytes(name) if sized else np.zeros(len(name), np.int64),
            np.zeros(len(name), np.int64) if retracts is None else retracts,
        )
