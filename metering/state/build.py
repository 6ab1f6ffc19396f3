"""Bringing the state up to the lake: once a night, and before a close."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import duckdb
import msgspec
import numpy as np

from metering.errors import MeteringError
from metering.events.identities import Identities
from metering.events.keys import identity_keys
from metering.failpoints import failpoint
from metering.lake import Lake, compose, connect
from metering.lake.files import sha256_of
from metering.sql import sql
from metering.state import policy
from metering.state.files import BROKEN, Folder, State, Store
from metering.state.recall import Superseded, give_held_events, recall, superseded_of
from metering.state.write import merge_segments, write_hot, write_segments, write_superseded
from metering.usage import meter

KEPT_IN_MEMORY = 1_000_000
"""New events beyond which they are read from the lake again and again instead."""


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
    store.sweep(state)
    con = connect(memory_limit, store.root / "spill")
    last = lake.manifest().last_batch
    number = state.next_number if state else 1
    if state is None and store.root.exists():
        number = _beyond(store.root)
    superseded = superseded_of(store, state) if state else {}
    segments = list(state.segments) if state else []
    _give_events(con, lake, store, state, last)
    for key, owners in recall(con, store, segments, superseded).items():
        superseded[key] = np.union1d(superseded.get(key, owners), owners)
    _compute(con, now)
    ranges = _settled_ranges(con, now)
    made = write_segments(con, store, number, ranges)
    number += len(ranges)
    hot = write_hot(con, store, number)
    number += 1
    segments = [_counted(segment, superseded) for segment in segments] + made
    segments, superseded, number = _merge(con, store, segments, superseded, number, now)
    written = write_superseded(con, store, number, superseded)
    found = State(
        engine=duckdb.__version__,
        built=state.built if state else f"{now}-{last}-{number}",
        batch=last,
        mark=lake.manifest().mark(last),
        now=max(now, state.now) if state else now,
        next_number=number + 1,
        hot=hot,
        segments=segments,
        superseded=written,
        superseded_sha256=sha256_of(store.root / written) if written else None,
    )
    found = msgspec.structs.replace(found, retired=sorted(state.names - found.names) if state else [])
    failpoint("state.before_swap")
    store.swap(found)
    failpoint("state.after_swap")
    return found


def _beyond(root: Path) -> int:
    """A number above those of all folders that lie there, from a state that is lost."""
    numbers = [path.stem.rpartition("-")[2] for path in root.iterdir()]
    return 1 + max((int(number) for number in numbers if number.isdigit()), default=0)


def _give_events(con: duckdb.DuckDBPyConnection, lake: Lake, store: Store, state: State | None, last: int) -> None:
    """Define `held_events`, `new_events`, and the `targets` of new retractions."""
    given_events(con, lake, state.batch if state else 0, last, "new_events")
    if state is None:
        con.execute("CREATE OR REPLACE TEMP TABLE held_events AS SELECT * FROM new_events WHERE false")
    else:
        give_held_events(con, store, state)
    give_targets(con, lake, state.batch if state else 0)


def given_events(con: duckdb.DuckDBPyConnection, lake: Lake, after: int, through: int, name: str) -> int:
    """Define the events of the batches after one and through another, as much of them as metering reads."""
    rows = lake.attach_events(con, f"all_{name}", after, through)
    kind = "TABLE" if rows <= KEPT_IN_MEMORY else "VIEW"
    con.execute(f"CREATE OR REPLACE TEMP {kind} {name} AS {_columns(f'all_{name}')}")
    return rows


def _columns(events: str) -> str:
    return sql("state", "columns").replace("given_events", events)


def give_targets(con: duckdb.DuckDBPyConnection, lake: Lake, before: int) -> None:
    """Define `targets`: what new events retract, among the new events and those of all batches before.

    Of the batches before, only those are read that the index of identities names.
    """
    retractions = con.sql(sql("state", "retractions")).to_arrow_table()
    keys = identity_keys(*(retractions.column(name).combine_chunks() for name in ("source", "id")))
    lake.attach_batches(con, "all_past_events", Identities(lake).batches_of(keys, before) if len(keys) else ())
    con.execute(f"CREATE OR REPLACE TEMP VIEW past_events AS {_columns('all_past_events')}")
    con.execute(f"CREATE OR REPLACE TEMP TABLE targets AS {compose(con, sql('state', 'targets'), 'state')}")


def _compute(con: duckdb.DuckDBPyConnection, now: int) -> None:
    """The relations of usage over the events that can still matter; what of them has settled by now."""
    con.execute(f"CREATE OR REPLACE TEMP VIEW events AS {sql('state', 'events')}")
    meter.open_relations(con, now, UTC, keep_lifespans=True)
    for room, name in (("state", "placed"), ("state", "placed_vms"), ("usage", "anomalies_for_ever")):
        con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {compose(con, sql(room, name), 'state', 'usage')}")


def _settled_ranges(con: duckdb.DuckDBPyConnection, now: int) -> list[tuple[int, int]]:
    """The parts in which what has settled is archived: one, or where it is much, one for each part of time."""
    ((count, first, last),) = con.execute(sql("state", "settled")).fetchall()
    if not count:
        return []
    return policy.ranges(first, last, now) if count > policy.SPLIT else [(first, last + 1)]


def _counted(segment: Folder, superseded: Superseded) -> Folder:
    return msgspec.structs.replace(segment, superseded=len(superseded.get(segment.segment, ())))


def _merge(
    con: duckdb.DuckDBPyConnection,
    store: Store,
    segments: list[Folder],
    superseded: Superseded,
    number: int,
    now: int,
) -> tuple[list[Folder], Superseded, int]:
    while members := policy.to_merge(segments, now):
        merged = merge_segments(con, store, number, members, superseded)
        number += 1
        gone = {one.segment for one in members}
        segments = [one for one in segments if one.segment not in gone]
        superseded = {key: owners for key, owners in superseded.items() if key not in gone}
        if merged.rows["index"]:
            segments.append(merged)
    return segments, superseded, number
