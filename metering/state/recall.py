"""Calling events back from the archive: what new events touch leaves its segment and is computed again."""

from __future__ import annotations

from collections.abc import Iterable

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from metering.lake import compose, give_files
from metering.sql import sql
from metering.state.files import Folder, State, Store
from metering.state.index import Keys, Times, owners_of

_OWN = ["segment", "owner"]
"""Columns that only the files of the state have."""
Superseded = dict[int, Keys]
"""By segment: the owners that have moved on, sorted."""


def superseded_of(store: Store, state: State) -> Superseded:
    """What the state counts as superseded."""
    if state.superseded is None:
        return {}
    table = pq.read_table(store.root / state.superseded)
    segments, owners = (table.column(name).to_numpy() for name in ("segment", "owner"))
    return {int(segment): np.sort(owners[segments == segment]) for segment in np.unique(segments)}


def touched(con: duckdb.DuckDBPyConnection, query: str) -> tuple[Keys, Times]:
    """Keys and the instants since when they touch, from a query."""
    table = con.sql(compose(con, query, "state", "usage")).to_arrow_table()
    keys = table.column("key").to_numpy().astype(np.uint64)
    order = np.argsort(keys)
    return keys[order], table.column("since").to_numpy().astype(np.int64)[order]


def recall(
    con: duckdb.DuckDBPyConnection, store: Store, segments: Iterable[Folder], superseded: Superseded
) -> Superseded:
    """Define `recalled_events`: those of the archive that `arriving` touches; says which owners they are of.

    A snapshot that comes back brings the deletions of its VM along.
    """
    found = list(segments)
    define_recalled(con, [])
    first, tables = _fetch(store, found, superseded, *touched(con, sql("state", "touches")))
    define_recalled(con, tables)
    second, more = _fetch(store, found, _both(superseded, first), *touched(con, sql("state", "touched_vms")))
    define_recalled(con, tables + more)
    return _both(first, second)


def define_recalled(con: duckdb.DuckDBPyConnection, tables: list[pa.Table]) -> None:
    """Define `recalled_events`."""
    if not tables:
        con.execute("CREATE OR REPLACE TEMP TABLE recalled_events AS SELECT * FROM new_events WHERE false")
        return
    con.register("recalled", pa.concat_tables(tables).drop_columns(_OWN))
    con.execute("CREATE OR REPLACE TEMP TABLE recalled_events AS FROM recalled")
    con.unregister("recalled")


def give_held_events(con: duckdb.DuckDBPyConnection, store: Store, state: State, name: str = "held_events") -> None:
    """Define the events of what could still change when the state was written."""
    give_files(con, name, [store.path(state.hot, "events")], columns=f"* EXCLUDE ({', '.join(_OWN)})")


def _both(some: Superseded, others: Superseded) -> Superseded:
    none = np.empty(0, np.uint64)
    return {key: np.union1d(some.get(key, none), others.get(key, none)) for key in some.keys() | others.keys()}


def _fetch(
    store: Store, segments: list[Folder], superseded: Superseded, keys: Keys, since: Times
) -> tuple[Superseded, list[pa.Table]]:
    owners: Superseded = {}
    tables: list[pa.Table] = []
    for folder in segments:
        found = owners_of(store.root / folder.name, keys, since)
        found = np.setdiff1d(found, superseded.get(folder.segment, np.empty(0, np.uint64)))
        if len(found):
            owners[folder.segment] = found
            tables += rows_of(store.path(folder, "events").as_posix(), found)
    return owners, tables


def rows_of(path: str, owners: Keys) -> list[pa.Table]:
    """The rows of some owners (sorted), from a file that is sorted by owner: only the row groups with one of them."""
    found = []
    with pq.ParquetFile(path) as file:
        column = file.schema_arrow.get_field_index("owner")
        for group in range(file.num_row_groups):
            known = file.metadata.row_group(group).column(column).statistics
            if known is not None and known.has_min_max:
                low, high = (
                    np.searchsorted(owners, np.uint64(known.min)),
                    np.searchsorted(owners, np.uint64(known.max), "right"),
                )
                if low == high:
                    continue
            table = file.read_row_group(group)
            mask = np.isin(table.column("owner").to_numpy(), owners)
            if mask.any():
                found.append(table.filter(pa.array(mask)))
    return found
