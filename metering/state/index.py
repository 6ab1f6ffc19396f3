"""Which owners of an archived segment a key touches: sorted arrays, memory-mapped.

A key stands for a snapshot, for the VM of a `vm` snapshot, or for the VM of a deletion. It is a hash, so it only
filters: who is found without need is computed again and comes out the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

COLUMNS = {"key": np.uint64, "owner": np.uint64, "ended_at": np.int64}
"""One entry: the key, whose rows it leads to, and when that one ended."""

Keys = NDArray[np.uint64]
Times = NDArray[np.int64]


def write_index(con: duckdb.DuckDBPyConnection, query: str, folder: Path) -> int:
    """Write the entries that a query yields in the order of their keys; how many there are."""
    table = con.sql(query).to_arrow_table()
    return write_arrays(folder, {name: table.column(name).to_numpy().astype(kind) for name, kind in COLUMNS.items()})


def write_arrays(folder: Path, arrays: dict[str, NDArray[Any]]) -> int:
    """Write entries in the order of their keys."""
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return len(arrays["key"])


def owners_of(folder: Path, keys: Keys, since: Times) -> Keys:
    """The owners that the keys lead to, as far as they had not ended before the instant given with the key."""
    index = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in COLUMNS}
    first = np.searchsorted(index["key"], keys, "left")
    count = np.searchsorted(index["key"], keys, "right") - first
    hit = np.flatnonzero(count)
    if not len(hit):
        return np.empty(0, np.uint64)
    places = np.concatenate([np.arange(first[i], first[i] + count[i]) for i in hit])
    bounds = np.repeat(since[hit], count[hit])
    return np.unique(index["owner"][places[index["ended_at"][places] >= bounds]])
