"""Writing folders of the state: from computed relations, or from segments that are merged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from metering.failpoints import failpoint
from metering.lake import compose, give_files
from metering.sql import sql
from metering.state.files import PARTS, Folder, Store, seal_folder, sync
from metering.state.index import COLUMNS, Keys, write_arrays, write_index
from metering.state.recall import Superseded

ROW_GROUP = {"events": 20_480}
"""Rows per group: few events, because they are fetched by owner."""


def write_hot(con: duckdb.DuckDBPyConnection, store: Store, number: int) -> Folder:
    """Write what can still change."""
    folder = _create(store, f"hot-{number:06}")
    return Folder(name=folder.name, rows=_write(con, folder, 0), sha256=seal_folder(folder))


def write_segment(con: duckdb.DuckDBPyConnection, store: Store, number: int) -> Folder:
    """Archive what `moving` and `moving_vms` name, with an index."""
    folder = _create(store, f"segment-{number:06}")
    rows = _write(con, folder, number)
    rows["index"] = write_index(con, compose(con, sql("state", "written_keys"), "state", "usage"), folder)
    return _segment(con, folder, number, rows)


def _write(con: duckdb.DuckDBPyConnection, folder: Path, segment: int) -> dict[str, int]:
    """Write what `moving` and `moving_vms` name; rows by part."""
    con.execute(f"CREATE OR REPLACE TEMP TABLE target AS SELECT {segment} AS segment")
    return {part: _copy(con, sql("state", f"written_{part}"), folder, part) for part in PARTS}


def merge_segments(
    con: duckdb.DuckDBPyConnection, store: Store, number: int, segments: Sequence[Folder], superseded: Superseded
) -> Folder:
    """One segment of several, without what is superseded in them."""
    folder = _create(store, f"segment-{number:06}")
    con.execute(f"CREATE OR REPLACE TEMP TABLE target AS SELECT {number} AS segment")
    give_superseded(con, {one.segment: superseded[one.segment] for one in segments if one.segment in superseded})
    rows = {}
    for part in PARTS:
        give_files(con, "merging", [store.path(one, part) for one in segments])
        rows[part] = _copy(con, sql("state", "merged"), folder, part)
    rows["index"] = _merge_index(store, segments, superseded, folder)
    return _segment(con, folder, number, rows)


def give_superseded(con: duckdb.DuckDBPyConnection, superseded: Superseded) -> None:
    """Define the relation `superseded`."""
    none = np.empty(0, np.uint64)
    given = {
        "segment": np.concatenate(
            [np.empty(0, np.int64), *(np.full(len(owners), key) for key, owners in superseded.items())]
        ),
        "owner": np.concatenate([none, *superseded.values()]),
    }
    con.register("given_superseded", pa.table(given))
    con.execute("CREATE OR REPLACE TEMP TABLE superseded AS SELECT segment, owner FROM given_superseded")
    con.unregister("given_superseded")


def write_superseded(con: duckdb.DuckDBPyConnection, store: Store, number: int, superseded: Superseded) -> str | None:
    """Write which owners have moved on; the file's name, None where none has."""
    if not any(len(owners) for owners in superseded.values()):
        return None
    give_superseded(con, superseded)
    path = store.root / f"superseded-{number:06}.parquet"
    con.table("superseded").to_parquet(str(path), compression="zstd")
    sync(path)
    return path.name


def _create(store: Store, name: str) -> Path:
    folder = store.root / name
    folder.mkdir(parents=True)
    return folder


def _copy(con: duckdb.DuckDBPyConnection, query: str, folder: Path, part: str) -> int:
    path = str(folder / f"{part}.parquet").replace("'", "''")
    text = compose(con, query, "state", "usage")
    size = ROW_GROUP.get(part, 122_880)
    ((count,),) = con.execute(
        f"COPY ({text}) TO '{path}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {size})"
    ).fetchall()
    failpoint("state.during_files")
    return int(count)


def _segment(con: duckdb.DuckDBPyConnection, folder: Path, number: int, rows: dict[str, int]) -> Folder:
    lifespans = con.read_parquet(str(folder / "lifespans.parquet"))
    ((until,),) = lifespans.aggregate("max(ended_at)").fetchall()
    return Folder(name=folder.name, segment=number, rows=rows, sha256=seal_folder(folder), ended_until=until)


def _merge_index(store: Store, segments: Sequence[Folder], superseded: Superseded, folder: Path) -> int:
    parts: dict[str, list[Keys]] = {name: [] for name in COLUMNS}
    for one in segments:
        arrays = {name: np.load(store.root / one.name / f"{name}.npy", mmap_mode="r") for name in COLUMNS}
        gone = superseded.get(one.segment)
        kept = slice(None) if gone is None else ~np.isin(arrays["owner"], gone)
        for name in COLUMNS:
            parts[name].append(arrays[name][kept])
    joined = {name: np.concatenate(part) for name, part in parts.items()}
    order = np.argsort(joined["key"], kind="stable")
    return write_arrays(folder, {name: array[order] for name, array in joined.items()})
