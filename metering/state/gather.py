"""Every event of what arriving events touch, wherever it is kept: with what is open, or in the batches of the lake."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import duckdb
import numpy as np

from metering.events.identities import Identities
from metering.events.keys import identity_keys
from metering.lake import Lake, define, every, give, give_files, has, table, view
from metering.sql import sql
from metering.state.files import Folder, State, Store
from metering.state.index import BLOCKS, FILTER, NONE, Index, Keys

Superseded = dict[int, Keys]
"""By segment: the subjects that have moved on, sorted."""


def superseded_of(con: duckdb.DuckDBPyConnection, store: Store, state: State) -> Superseded:
    """What the state counts as superseded."""
    give_files(con, "stored_superseded", [store.root / state.superseded.name])
    return _by_segment(con, "stored_superseded")


def both(some: Superseded, others: Superseded) -> Superseded:
    """What either names."""
    return {key: np.union1d(some.get(key, NONE), others.get(key, NONE)) for key in some.keys() | others.keys()}


def give_superseded(con: duckdb.DuckDBPyConnection, superseded: Superseded) -> None:
    """Define the relation `superseded`."""
    segments = [np.full(len(gone), segment) for segment, gone in superseded.items()]
    pairs = {"segment": segments, "subject_high": list(superseded.values())}
    give(con, "superseded", {name: np.concatenate([NONE, *column]) for name, column in pairs.items()})


def give_new_events(con: duckdb.DuckDBPyConnection, lake: Lake, after: int) -> None:
    """Compute `new_events`, which are `lake_events`, and the `targets` of the retractions among them.

    Of the batches up to `after`, only those are read for them that the index of identities names.
    """
    table(con, "new_events", sql("state", "columns"))
    if not has(con, "taken_deletions"):
        view(con, "taken_deletions", sql("state", "no_deletions"))
    define(con, "state", "retracted_identities", kind="TABLE")
    identities = con.sql(every("retracted_identities")).to_arrow_table()
    keys = identity_keys(*(identities.column(name).combine_chunks() for name in ("source", "id")))
    _give_past_events(con, lake, Identities(lake).batches_of(keys, after) if len(keys) else ())
    define(con, "state", "targets", kind="TABLE")


def give_open_events(con: duckdb.DuckDBPyConnection, store: Store, folders: Iterable[Folder]) -> None:
    """Define `open_events`: those of what can still change; `superseded` is there already."""
    files = store.paths((folder for folder in folders if folder.is_open), "events")
    if files:
        give_files(con, "stored_events", files)
    else:
        view(con, "stored_events", sql("state", "no_events"))
    view(con, "open_events", sql("state", "open_events"))


def give_retractions(con: duckdb.DuckDBPyConnection, store: Store, state: State) -> None:
    """Define `known_retractions`: all up to the state's batch."""
    give_files(con, "known_retractions", [store.root / state.retractions.name])


def gather(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    store: Store,
    folders: Sequence[Folder],
    superseded: Superseded,
    relation: str,
    known: int,
) -> Superseded:
    """Define what `new_events` and `targets` touch, and all events of that; says where it was until now.

    `gathered` are the events of what is touched, as a relation of this room says; `standing_deletions` are
    deletions of VMs that end touched snapshots, but are not touched themselves. Batches after `known` are not read.
    Raises ValueError where what is read for it is not what was written.
    """
    store.prove((folder for folder in folders if folder.is_open), "events.parquet")
    store.prove((folder for folder in folders if not folder.is_open), BLOCKS, FILTER)
    give_superseded(con, superseded)
    give_open_events(con, store, folders)
    view(con, "arriving", sql("state", "arriving"))
    define(con, "state", "deleted_vms", kind="TABLE")
    indexes = {folder.segment: Index(store.root / folder.name) for folder in folders if not folder.is_open}
    vms, since = (_keys(con, "deleted_vms", "vm_high", name) for name in ("vm_high", "since"))
    ended = [NONE]
    if len(vms):
        for segment, index in indexes.items():
            ended.append(np.setdiff1d(index.snapshots_of(vms, since), superseded.get(segment, NONE)))
            index.rest()
    give(con, "ended_of_vms", {"subject_high": np.concatenate(ended)})
    define(con, "state", "touched", "touched_open", "held_events", kind="TABLE")
    moved = _by_segment(con, "touched_open")
    touched = _keys(con, "touched", "subject_high")
    batches: set[int] = set()
    for segment, index in indexes.items():
        found = np.setdiff1d(index.subjects(touched), superseded.get(segment, NONE))
        if len(found):
            moved[segment] = found
            batches |= index.batches(found)
        index.rest()
    recalled = [gone for segment, gone in moved.items() if segment in indexes]
    give(con, "recalled", {"subject_high": np.unique(np.concatenate([NONE, *recalled]))})
    _give_past_events(con, lake, {batch for batch in batches if batch <= known})
    define(con, "state", "recalled_events", kind="TABLE")
    for name, text in (("known_events", "known_events"), ("gathered", relation)):
        view(con, name, sql("state", text))
    define(con, "state", "vms_at_hand", kind="TABLE")
    at_hand = _keys(con, "vms_at_hand", "subject_high")
    batches = set()
    for index in indexes.values():
        batches |= index.batches(at_hand)
        index.rest()
    _give_past_events(con, lake, {batch for batch in batches if batch <= known})
    define(con, "state", "standing_deletions", kind="TABLE")
    return moved


def _give_past_events(con: duckdb.DuckDBPyConnection, lake: Lake, batches: Collection[int]) -> None:
    """Define `past_events`: those of some batches, and deletions of VMs that earlier parts brought."""
    lake.attach_batches(con, "lake_events", batches)
    view(con, "batches_events", sql("state", "columns"))
    view(con, "past_events", sql("state", "past_events"))


def _keys(con: duckdb.DuckDBPyConnection, relation: str, order: str, name: str | None = None) -> Keys:
    """A column of a relation, sorted by itself or by another."""
    (column,) = con.execute(every(relation, name or order, order=order)).fetchnumpy().values()
    return np.asarray(column, np.int64)


def _by_segment(con: duckdb.DuckDBPyConnection, pairs: str) -> Superseded:
    segments, subjects = con.execute(every(pairs, "segment, subject_high")).fetchnumpy().values()
    return {int(segment): np.unique(subjects[segments == segment]) for segment in np.unique(segments)}
