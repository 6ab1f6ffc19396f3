"""Writing folders of the state: from computed relations, or from folders that are merged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np

from metering.durable import sync
from metering.failpoints import failpoint
from metering.lake import compose, copy, count, drop, every, give, give_files, table
from metering.lake.files import sha256_of
from metering.sql import sql
from metering.state.files import COMPUTED, Folder, Side, Store, seal_folder
from metering.state.gather import Superseded, give_superseded
from metering.state.index import COLUMNS, NONE, Entries, Held, Index, ends_of, merged_entries, of_part, write_entries
from metering.state.policy import Merging

FORM = "COMPRESSION zstd, COMPRESSION_LEVEL 1"
"""Of the files: they are read and written often, and may be lost."""


class Target(NamedTuple):
    """A folder that is being written: what can still change, or what ended in a half-open part of time."""

    segment: int
    since: int | None = None
    until: int | None = None


def write_folder(con: duckdb.DuckDBPyConnection, store: Store, target: Target) -> Folder:
    """Write what the computed relations have for a folder."""
    table(con, "target", sql("state", "target"), target)
    table(con, "moving", sql("state", "moving"))
    is_open = target.since is None
    path = _create(store, is_open, target.segment)
    names = (*COMPUTED, "events") if is_open else COMPUTED
    rows = {name: _copy(con, _written(con, name), path, name) for name in names}
    if is_open:
        subjects = count(con, every("moving", "DISTINCT subject_high"))
        return _sealed(path, target.segment, subjects, rows)
    entries = con.execute(_written(con, "keys")).fetchnumpy()
    held = write_entries(path, {name: np.asarray(entries[name]) for name in COLUMNS})
    return _sealed(path, target.segment, held, rows)


def _written(con: duckdb.DuckDBPyConnection, name: str) -> str:
    return compose(con, sql("state", f"written_{name}"), "state", "usage")


def merge_folders(
    con: duckdb.DuckDBPyConnection, store: Store, merging: Merging, superseded: Superseded, first: int
) -> list[Folder]:
    """Write the folders that several become, numbered from `first`, without what is superseded in them.

    Raises ValueError where one of them is not what was written.
    """
    members = merging.members
    store.prove(members)
    gone = {one.segment: superseded.get(one.segment, NONE) for one in members}
    give_superseded(con, gone)
    if members[0].is_open:
        path, rows = _merge_rows(con, store, members, first)
        return [_sealed(path, first, sum(one.subjects - len(gone[one.segment]) for one in members), rows)]
    entries = merged_entries((Index(store.root / one.name), gone[one.segment]) for one in members)
    if merging.parts:
        return _parted(con, store, merging, entries, first)
    path, rows = _merge_rows(con, store, members, first)
    return [_sealed(path, first, write_entries(path, entries), rows)]


def _merge_rows(
    con: duckdb.DuckDBPyConnection, store: Store, members: Sequence[Folder], segment: int
) -> tuple[Path, dict[str, int]]:
    path = _create(store, members[0].is_open, segment)
    give(con, "target", {"segment": np.array([segment])})
    rows = {}
    for name in members[0].rows:
        give_files(con, "merging", [store.path(one, name) for one in members])
        rows[name] = _copy(con, sql("state", "merged"), path, name)
    return path, rows


def _parted(
    con: duckdb.DuckDBPyConnection, store: Store, merging: Merging, entries: Entries, first: int
) -> list[Folder]:
    """One folder for each part of time, of what ended in it."""
    subjects, ends = ends_of(entries)
    places = np.searchsorted([since for since, _ in merging.parts], ends, "right") - 1
    give(con, "chosen", {"subject_high": subjects, "segment": places + first})
    used = [int(place) for place in np.unique(places)]
    paths = {place: _create(store, False, first + place) for place in used}
    rows: dict[int, dict[str, int]] = {place: {} for place in used}
    for name in COMPUTED:
        give_files(con, "merging", [store.path(one, name) for one in merging.members])
        table(con, "parted", sql("state", "parted"))
        for place, path in paths.items():
            rows[place][name] = _copy(con, every("parted", cut=f"segment = {first + place}"), path, name)
    drop(con, "parted")
    part_of = places[np.searchsorted(subjects, entries["subject_high"])]
    return [
        _sealed(path, first + place, write_entries(path, of_part(entries, part_of == place)), rows[place])
        for place, path in paths.items()
    ]


def write_side(con: duckdb.DuckDBPyConnection, store: Store, relation: str, number: int) -> Side:
    """Write a relation to a file beside the folders."""
    path = store.root / f"{relation.rpartition('_')[2]}-{number:06}.parquet"
    copy(con, every(relation), path, FORM)
    sync(path)
    return Side(path.name, sha256_of(path))


def _create(store: Store, is_open: bool, segment: int) -> Path:
    path = store.root / f"{'open' if is_open else 'ended'}-{segment:06}"
    path.mkdir(parents=True)
    return path


def _copy(con: duckdb.DuckDBPyConnection, query: str, folder: Path, name: str) -> int:
    rows = copy(con, query, folder / f"{name}.parquet", FORM)
    failpoint("state.during_files")
    return rows


def _sealed(path: Path, segment: int, held: Held | int, rows: dict[str, int]) -> Folder:
    """The folder as it is written; one that has ended says of when it is."""
    ends = held if isinstance(held, Held) else Held(held, None, None)
    return Folder(
        name=path.name,
        segment=segment,
        is_open=not isinstance(held, Held),
        subjects=ends.subjects,
        rows=rows,
        sha256=seal_folder(path),
        ended_from=ends.ended_from,
        ended_until=ends.ended_until,
    )
