"""Writing folders of the state: from computed relations, or from segments that are merged."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from metering.durable import sync
from metering.failpoints import failpoint
from metering.lake import compose, give_files
from metering.sql import sql
from metering.state.files import PARTS, Folder, Store, seal_folder
from metering.state.index import COLUMNS, Keys, write_arrays, write_index
from metering.state.recall import Superseded

ROW_GROUP = {"events": 20_480}
"""Rows per group: few events, because they are fetched by owner."""


def write_hot(con: duckdb.DuckDBPyConnection, store: Store, number: int) -> Folder:
    """Write what can still change."""
    _aim(con, [(0, None, None)])
    folder = _create(store, f"hot-{number:06}")
    rows = {part: _copy(con, _written(con, part), folder, part) for part in PARTS}
    return Folder(name=folder.name, rows=rows, sha256=seal_folder(folder))


def write_segments(
    con: duckdb.DuckDBPyConnection, store: Store, number: int, ranges: Sequence[tuple[int, int]]
) -> list[Folder]:
    """Archive what ended in each part of time, numbered from `number`; a part in which nothing did is left out."""
    if not ranges:
        return []
    _aim(con, [(number + place, since, until) for place, (since, until) in enumerate(ranges)])
    used = [segment for (segment,) in con.execute(sql("state", "used_segments")).fetchall()]
    if len(used) > 1:
        # All parts at once, so that events are read once however long the history is.
        sources = {part: _put_apart(con, store, part) for part in (*PARTS, "keys")}
    else:
        sources = {part: _written(con, part) for part in (*PARTS, "keys")}
    found = [_archive(con, store, segment, sources) for segment in used]
    for part in sources:
        shutil.rmtree(_apart(store, part), ignore_errors=True)
    return found


def _archive(con: duckdb.DuckDBPyConnection, store: Store, segment: int, sources: Mapping[str, str]) -> Folder:
    """Write the folder of one segment from the rows of one or several."""
    folder = _create(store, f"segment-{segment:06}")
    chosen = {part: f"SELECT * FROM ({source}) AS source WHERE segment = {segment}" for part, source in sources.items()}
    rows = {part: _copy(con, chosen[part], folder, part) for part in PARTS}
    rows["index"] = write_index(con, f"{chosen['keys']} ORDER BY key", folder)
    return _segment(con, folder, segment, rows)


def _aim(con: duckdb.DuckDBPyConnection, targets: Sequence[tuple[int, int | None, int | None]]) -> None:
    """Define which folders are written: their segment (0 is the hot one) and their part of time."""
    con.execute("CREATE OR REPLACE TEMP TABLE target (segment BIGINT, since BIGINT, until BIGINT)")
    con.executemany("INSERT INTO target VALUES (?, ?, ?)", targets)
    for name in ("moving", "moving_vms"):
        con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {sql('state', name)}")


def _written(con: duckdb.DuckDBPyConnection, part: str) -> str:
    return compose(con, sql("state", f"written_{part}"), "state", "usage")


def _apart(store: Store, part: str) -> Path:
    return store.root / "spill" / f"apart-{part}"


def _put_apart(con: duckdb.DuckDBPyConnection, store: Store, part: str) -> str:
    """Write the rows of several segments, each to files of its own; the query that reads them."""
    folder = _apart(store, part)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(exist_ok=True)
    text, path = _written(con, part), str(folder).replace("'", "''")
    ((count,),) = con.execute(
        f"COPY ({text}) TO '{path}' (FORMAT parquet, PARTITION_BY (segment), WRITE_PARTITION_COLUMNS true)"
    ).fetchall()
    if count:
        return f"SELECT * FROM read_parquet('{path}/*/*.parquet', hive_partitioning = false)"
    con.execute(f"CREATE OR REPLACE TEMP TABLE apart_{part} AS SELECT * FROM ({text}) AS none LIMIT 0")
    return f"SELECT * FROM apart_{part}"


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
        rows[part] = _copy(con, compose(con, sql("state", "merged"), "state"), folder, part)
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
    size = ROW_GROUP.get(part, 122_880)
    ((count,),) = con.execute(
        f"COPY ({query} ORDER BY owner) TO '{path}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {size})"
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
