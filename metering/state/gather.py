"""Every event of what arriving events touch, wherever it is kept: with what is open, or in the batches of the lake."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import duckdb
import numpy as np

from metering.events.identities import Identities
from metering.events.keys import identity_keys
from metering.lake import Lake, give_files
from metering.sql import sql
from metering.state.files import Folder, State, Store
from metering.state.index import NONE, Index, Keys

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


def give_new_events(
    con: duckdb.DuckDBPyConnection, lake: Lake, after: int, through: int, cut: str | None = None
) -> None:
    """Define `new_events`, those of the batches after one and through another that `cut` leaves.

    And the `targets` of the retractions among them: of the batches before, only those are read that the index of
    identities names.
    """
    lake.attach_events(con, "lake_events", after, through, cut)
    con.execute(f"CREATE OR REPLACE TEMP TABLE new_events AS {sql('state', 'columns')}")
    _define(con, "retracted_identities")
    identities = con.sql("FROM retracted_identities").to_arrow_table()
    keys = identity_keys(*(identities.column(name).combine_chunks() for name in ("source", "id")))
    _give_past_events(con, lake, Identities(lake).batches_of(keys, after) if len(keys) else ())
    _define(con, "targets")


def give_open_events(con: duckdb.DuckDBPyConnection, store: Store, folders: Iterable[Folder]) -> None:
    """Define `open_events`: those of what can still change; `superseded` is there already."""
    files = store.paths((folder for folder in folders if folder.is_open), "events")
    if files:
        give_files(con, "stored_events", files)
    else:
        con.execute(f"CREATE OR REPLACE TEMP VIEW stored_events AS {sql('state', 'no_events')}")
    con.execute(f"CREATE OR REPLACE TEMP VIEW open_events AS {sql('state', 'open_events')}")


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
) -> Superseded:
    """Define what `new_events` and `targets` touch, and all events of that; says where it was until now.

    `gathered` are the events of what is touched, as a relation of this room says; `standing_deletions` are
    deletions of VMs that end touched snapshots, but are not touched themselves.
    """
    give_superseded(con, superseded)
    give_open_events(con, store, folders)
    con.execute(f"CREATE OR REPLACE TEMP VIEW arriving AS {sql('state', 'arriving')}")
    _define(con, "touched", "deleted_vms", "touched_open", "held_events")
    moved = _by_segment(con, "touched_open")
    indexes = {folder.segment: Index(store.root / folder.name) for folder in folders if not folder.is_open}
    touched = _keys(con, "FROM touched ORDER BY subject_high")
    vms, since = (_keys(con, f"SELECT {name} FROM deleted_vms ORDER BY vm_high") for name in ("vm_high", "since"))
    batches: set[int] = set()
    for segment, index in indexes.items():
        found = np.union1d(index.subjects(touched), index.snapshots_of(vms, since))
        found = np.setdiff1d(found, superseded.get(segment, NONE))
        if len(found):
            moved[segment] = found
            batches |= index.batches(found)
    recalled = [gone for segment, gone in moved.items() if segment in indexes]
    give(con, "recalled", {"subject_high": np.unique(np.concatenate([NONE, *recalled]))})
    _give_past_events(con, lake, batches)
    _define(con, "recalled_events")
    for name, text in (("known_events", "known_events"), ("gathered", relation)):
        con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {sql('state', text)}")
    _define(con, "vms_at_hand")
    at_hand = _keys(con, "FROM vms_at_hand ORDER BY subject_high")
    _give_past_events(con, lake, set().union(*(index.batches(at_hand) for index in indexes.values())))
    _define(con, "standing_deletions")
    return moved


def _give_past_events(con: duckdb.DuckDBPyConnection, lake: Lake, batches: Collection[int]) -> None:
    """Define `past_events`: those of some batches."""
    lake.attach_batches(con, "lake_events", batches)
    con.execute(f"CREATE OR REPLACE TEMP VIEW past_events AS {sql('state', 'columns')}")


def _define(con: duckdb.DuckDBPyConnection, *names: str) -> None:
    for name in names:
        con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {sql('state', name)}")


def give(con: duckdb.DuckDBPyConnection, name: str, columns: Mapping[str, Keys]) -> None:
    """Define a relation of columns; as NumPy's, because Arrow loads pandas to make a table of them."""
    con.register("given_columns", dict(columns))
    con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS FROM given_columns")
    con.unregister("given_columns")


def _keys(con: duckdb.DuckDBPyConnection, query: str) -> Keys:
    (column,) = con.execute(query).fetchnumpy().values()
    return np.asarray(column, np.int64)


def _by_segment(con: duckdb.DuckDBPyConnection, pairs: str) -> Superseded:
    segments, subjects = con.execute(f"SELECT segment, subject_high FROM {pairs}").fetchnumpy().values()
    return {int(segment): np.unique(subjects[segments == segment]) for segment in np.unique(segments)}
