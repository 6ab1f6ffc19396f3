"""Opening the relations of usage over the state instead of over all events."""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo
from typing import TypeVar

import duckdb

from metering.lake import Lake, connect, count, every, give_files, table, view
from metering.sql import sql
from metering.state.files import BROKEN, COMPUTED, State, Store
from metering.state.gather import give_open_events, give_retractions
from metering.usage import meter
from metering.usage.kept import Kept, give_kept

Answer = TypeVar("Answer")


def open_usage(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    now: int,
    zone: tzinfo,
    through: int | None = None,
    *,
    anomalies: bool = False,
    all_events: bool = False,
    keep_lifespans: bool = True,
) -> bool:
    """Open the relations of usage over the events up to a batch (default: all); whether the state answers.

    It does where it is true up to that very batch; anomalies it has only of times since it archived last. Else all
    events are read, which gives the same answers; also where `all_events` says so. Their lifespans are computed once
    for all questions with `keep_lifespans`, else for each question those that it needs.
    """
    last = lake.manifest().last_batch if through is None else through
    state = None if all_events else Store(lake).load()
    few = lake.attach_usage(con, through)
    if state is None or state.batch != last or (anomalies and now < state.now):
        # What proves a figure comes from the files as they are, not from what this process remembers.
        meter.open_relations(con, now, zone, keep_lifespans=keep_lifespans, few=few, remember=not all_events)
        return False
    give_state(con, lake, state)
    meter.open_relations(con, now, zone)
    return True


def with_usage(
    lake: Lake,
    now: int,
    zone: tzinfo,
    question: Callable[[duckdb.DuckDBPyConnection], Answer],
    memory_limit: str | None,
    *,
    keep_lifespans: bool = True,
) -> Answer:
    """Put a question about all events; where files of the state are gone or damaged, it is put to the events."""
    try:
        con = connect(memory_limit)
        open_usage(con, lake, now, zone, keep_lifespans=keep_lifespans)
        return question(con)
    except BROKEN:
        con = connect(memory_limit)
        open_usage(con, lake, now, zone, all_events=True, keep_lifespans=keep_lifespans)
        return question(con)


def give_state(con: duckdb.DuckDBPyConnection, lake: Lake, state: State) -> None:
    """Define what the relations of usage read, as the state has it; `quarantine` is there already."""
    store = Store(lake)
    give_files(con, "superseded", [store.root / state.superseded.name])
    table(con, "disputed", sql("state", "disputed"))
    disputed = count(con, every("disputed"))
    # Refused repeats are rare: for them all events are looked through, and else none.
    lake.attach_events(con, "disputed_events", 0, state.batch if disputed else 0)
    give_kept(
        con,
        [
            Kept(
                relation,
                str(store.path(folder, relation)),
                folder.rows[relation],
                None if folder.is_open else folder.ended_until,
            )
            for folder in state.folders
            for relation in COMPUTED
        ],
    )
    open_folders = [folder for folder in state.folders if folder.is_open]
    give_files(con, "stored_changing", store.paths(open_folders, "lifespans"))
    view(con, "changing_lifespans", sql("state", "changing_lifespans"))
    give_open_events(con, store, open_folders)
    give_retractions(con, store, state)
    view(con, "events", sql("state", "open_and_retractions"))
