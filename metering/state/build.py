"""Bringing the state up to the lake: once a night, and before a close."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import duckdb
import msgspec

from metering.errors import MeteringError
from metering.failpoints import failpoint
from metering.lake import Lake, add, compose, connect, drop_all_but, every, table, view
from metering.sql import sql
from metering.state import policy
from metering.state.files import BROKEN, Folder, State, Store
from metering.state.gather import (
    Superseded,
    both,
    gather,
    give_new_events,
    give_retractions,
    give_superseded,
    superseded_of,
)
from metering.state.parts import Part, arriving_parts
from metering.state.write import Target, merge_folders, write_folder, write_side
from metering.usage import meter


def advance(
    lake: Lake, now: int, memory_limit: str | None = None, say: Callable[[str], None] = lambda _: None
) -> State | None:
    """Take in every batch that the state does not know, and archive what has ended by now.

    The caller holds the run lock. A state that is lost, damaged or of another version is built anew; None where the
    lake is too small for one, or a cluster computes without it. Raises MeteringError if it cannot be written; then
    all events are read instead.
    """
    try:
        return _advance_or_build(lake, now, memory_limit, say)
    except (duckdb.Error, OSError) as error:
        raise MeteringError(
            f"The state of the lifespans cannot be written: {error}".splitlines()[0],
            unchanged="The lake is as it was; until the state is written, reports and closes read all events.",
            remedy="See that the disk has room; the next night tries again.",
        ) from None


def _advance_or_build(lake: Lake, now: int, memory_limit: str | None, say: Callable[[str], None]) -> State | None:
    if lake.is_computed_elsewhere:
        return None
    store = Store(lake)
    state = store.load()
    manifest = lake.manifest()
    last = manifest.last_batch
    if state is None and not policy.is_worth(sum(b.events.rows for b in manifest.batches if b.events)):
        return None
    store.root.mkdir(parents=True, exist_ok=True)
    if state is not None and state.batch == last and now - state.now < policy.REST:
        return state
    if state is not None:
        try:
            return _advance(lake, store, state, now, memory_limit)
        except BROKEN as error:
            say(f"lifespans: {_ANEW} ({str(error).splitlines()[0]})")
    else:
        for reason in store.why_unreadable():
            say(f"lifespans: {_ANEW} ({reason})")
    return _advance(lake, store, None, now, memory_limit)


_ANEW = "their state could not be read and is built anew from all events"


def _advance(lake: Lake, store: Store, state: State | None, now: int, memory_limit: str | None) -> State:
    last = lake.manifest().last_batch
    store.sweep(state)
    with connect(memory_limit, store.root / "spill") as con:
        draft = _Draft(con, lake, store, state, now)
        for part in arriving_parts(con, lake, store, draft.known, last):
            draft.take(part)
        draft.merge()
        found = draft.state(last)
    failpoint("state.before_swap")
    store.swap(found)
    failpoint("state.after_swap")
    return found


class _Draft:
    """A state that is being made: the folders that it has, and what has moved on in them."""

    def __init__(
        self, con: duckdb.DuckDBPyConnection, lake: Lake, store: Store, before: State | None, now: int
    ) -> None:
        self.con, self.lake, self.store, self.before, self.now = con, lake, store, before, now
        self.known = before.batch if before else 0
        self.folders: list[Folder] = list(before.folders) if before else []
        self.apart: set[int] = set()
        """The segments of which no later part is about a subject."""
        if before:
            store.prove([], sides=before.sides)
        self.superseded: Superseded = superseded_of(con, store, before) if before else {}
        self.number = before.next_number if before else _beyond(store.root)
        if before:
            give_retractions(con, store, before)
        else:
            lake.attach_events(con, "lake_events", 0, 0)
            give_new_events(con, lake, 0)
            view(con, "known_retractions", sql("state", "new_retractions"))
        table(con, "all_retractions", every("known_retractions"))
        view(con, "known_retractions", every("all_retractions"))

    def take(self, part: Part) -> None:
        """Take in new events: all that they touch is computed again, and lies in folders of its own from now on."""
        con = self.con
        give_new_events(con, self.lake, self.known)
        add(con, "all_retractions", sql("state", "new_retractions"))
        meter.set_now(con, self.now)
        asked = [folder for folder in self.folders if folder.segment not in self.apart]
        moved = gather(con, self.lake, self.store, asked, self.superseded, "taken_events", self.known)
        self.superseded = both(self.superseded, moved)
        self._compute()
        made = [self._written(Target(self.number))]
        ((ended, first, last),) = con.execute(sql("state", "ends_at_hand")).fetchall()
        if ended:
            made.append(self._written(Target(self.number, first, last + 1)))
        kept = [folder for folder in made if folder.subjects or not self.folders]
        if part is Part.WHOLE:
            self.apart |= {folder.segment for folder in kept}
        self._replace([], kept)

    def _compute(self) -> None:
        """The relations of usage over the events of what is touched; what of it has ended by now."""
        con = self.con
        view(con, "events", sql("state", "events_to_compute"))
        meter.open_relations(con, self.now, UTC, keep_lifespans=True)
        for room, name in (("state", "placed"), ("usage", "anomalies_for_ever")):
            table(con, name, compose(con, sql(room, name), "state", "usage"))

    def _written(self, target: Target) -> Folder:
        self.number += 1
        return write_folder(self.con, self.store, target)

    def merge(self) -> None:
        """Merge and part folders until there are few; the last part's events leave their memory to that."""
        drop_all_but(self.con, "all_retractions")
        while merging := policy.to_merge(self.folders, self.now):
            made = merge_folders(self.con, self.store, merging, self.superseded, self.number)
            self.number += max(1, len(merging.parts))
            self._replace(merging.members, made)

    def _replace(self, members: list[Folder], made: list[Folder]) -> None:
        """Have folders in the place of others; what only this draft knows goes at once."""
        gone = {folder.segment for folder in members}
        known = {folder.name for folder in self.before.folders} if self.before else set()
        for folder in members:
            if folder.name not in known:
                shutil.rmtree(self.store.root / folder.name)
        self.superseded = {segment: subjects for segment, subjects in self.superseded.items() if segment not in gone}
        self.folders = [
            msgspec.structs.replace(folder, superseded=len(self.superseded.get(folder.segment, ())))
            for folder in (*self.folders, *made)
            if folder.segment not in gone
        ]

    def state(self, batch: int) -> State:
        """The state as it is written now."""
        before, now = self.before, self.now
        give_superseded(self.con, self.superseded)
        sides = [write_side(self.con, self.store, name, self.number) for name in ("superseded", "all_retractions")]
        found = State(
            built=before.built if before else f"{now}-{batch}-{self.number}",
            batch=batch,
            mark=self.lake.manifest().mark(batch),
            now=max(now, before.now) if before else now,
            next_number=self.number + 1,
            folders=self.folders,
            superseded=sides[0],
            retractions=sides[1],
        )
        retired = before.names - found.names if before else ()
        return msgspec.structs.replace(found, retired=sorted(retired))


def _beyond(root: Path) -> int:
    """A number above those of all that lies there, from a state that is lost."""
    numbers = [path.stem.rpartition("-")[2] for path in root.iterdir()]
    return 1 + max((int(number) for number in numbers if number.isdigit()), default=0)
