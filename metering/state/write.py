"""Writing folders of the state: from computed relations, or from folders that are merged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np

from metering.durable import sync
from metering.failpoints import failpoint
from metering.lake import compose, copy, count, drop, every, give, give_files, table
from metering.lake.entries import Entries, ExternalSort, Places, merged
from metering.lake.files import sha256_of
from metering.sql import sql
from metering.state.files import COMPUTED, FORM, Folder, Side, Store, seal_folder
from metering.state.gather import Superseded, give_superseded
from metering.state.index import (
    KINDS,
    NONE,
    Held,
    IndexWriter,
    Keys,
    Remaining,
    all_ends,
    of_part,
    remaining,
    write_entries,
)
from metering.state.policy import Merging


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
    given = con.execute(_written(con, "keys")).fetchnumpy()
    entries = ExternalSort(path, KINDS)
    entries.add({name: np.asarray(given[name], np.int64) for name in KINDS})
    held = write_entries(path, merged(entries.sources(), KINDS), len(given["key"]))
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
    entries = remaining((store.root / one.name, gone[one.segment]) for one in members)
    if merging.parts:
        return _parted(con, store, merging, entries, first)
    path, rows = _merge_rows(con, store, members, first)
    held = write_entries(path, merged(entries, KINDS), sum(source.rows for source in entries))
    return [_sealed(path, first, held, rows)]


def _merge_rows(
    con: duckdb.DuckDBPyConnection, store: Store, members: Sequence[Folder], segment: int
) -> tuple[Path, dict[str, int]]:
    path = _create(store, members[0].is_open, segment)
    give(con, "target", {"segment": np.array([segment])})
    rows = {}
    for name in members[0].rows:
        give_files(con, "merging", store.paths(members, name))
        rows[name] = _copy(con, sql("state", "merged"), path, name)
    return path, rows


def _parted(
    con: duckdb.DuckDBPyConnection, store: Store, merging: Merging, entries: Sequence[Remaining], first: int
) -> list[Folder]:
    """One folder for each part of time, of what ended in it."""
    subjects, ends = all_ends(merged(entries, KINDS))
    places = np.searchsorted([since for since, _ in merging.parts], ends, "right") - 1
    give(con, "chosen", {"subject_high": subjects, "segment": places + first})
    used = [int(place) for place in np.unique(places)]
    paths = {place: _create(store, False, first + place) for place in used}
    rows: dict[int, dict[str, int]] = {place: {} for place in used}
    for name in COMPUTED:
        give_files(con, "merging", store.paths(merging.members, name))
        table(con, "parted", sql("state", "parted"))
        for place, path in paths.items():
            rows[place][name] = _copy(con, every("parted", cut=f"segment = {first + place}"), path, name)
    drop(con, "parted")
    counts = np.zeros(len(merging.parts), np.int64)
    for _, part_of in _with_parts(entries, subjects, places):
        counts += np.bincount(part_of, minlength=len(counts))
    writers = {place: IndexWriter(path, int(counts[place])) for place, path in paths.items()}
    for some, part_of in _with_parts(entries, subjects, places):
        for place, writer in writers.items():
            writer.add(of_part(some, part_of == place))
    return [_sealed(path, first + place, writers[place].close(), rows[place]) for place, path in paths.items()]


def _with_parts(entries: Sequence[Remaining], subjects: Keys, places: Places) -> Iterator[tuple[Entries, Places]]:
    """Entries in order, and in which part of time what each leads to had ended."""
    for some in merged(entries, KINDS):
        yield some, places[np.searchsorted(subjects, some["subject_high"])]


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
