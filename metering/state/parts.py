"""New events in parts that fit into memory: many are first divided by what they are about.

So all that is new of one snapshot is taken in at once, however many batches brought it, and none of it is looked for
again. What concerns snapshots of all parts comes before: retractions, because what they take back is then never taken
in, and deletions of VMs.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from metering.lake import Lake, copy, give_files, give_stream
from metering.sql import sql
from metering.state import policy
from metering.state.files import DIVIDED, FORM, Store

_ROWS = 200_000
"""So many events are divided at once."""
_RETRACTS, _DELETES = "type = 'event.retracted'", "type = 'vm.deleted'"


class Part(Enum):
    """What the events of a part are about."""

    ANY = "what other parts may be about too"
    WHOLE = "snapshots of which no other part has events"


def arriving_parts(con: duckdb.DuckDBPyConnection, lake: Lake, store: Store, after: int, last: int) -> Iterator[Part]:
    """Define `lake_events`, one part after another: together those of the batches after one and through another.

    And `taken_deletions`, if earlier parts brought some.
    """
    rows = sum(batch.events.rows for batch in lake.manifest().batches[after:last] if batch.events)
    if rows <= policy.AT_ONCE:
        lake.attach_events(con, "lake_events", after, last)
        yield Part.ANY
        return
    folder = store.root / DIVIDED
    folder.mkdir()
    try:
        lake.attach_events(con, "lake_events", after, last, _RETRACTS)
        yield Part.ANY
        deletions = folder / "deletions.parquet"
        lake.attach_events(con, "lake_events", after, last, _DELETES)
        for low, high in _ranges(copy(con, sql("state", "columns"), deletions, FORM)):
            give_files(con, "lake_events", [deletions], f"subject_high BETWEEN {low} AND {high}")
            yield Part.ANY
        give_files(con, "taken_deletions", [deletions])
        lake.attach_events(con, "lake_events", after, last, f"NOT {_RETRACTS} AND NOT {_DELETES}")
        for path in _divided(con, folder, _count(rows)):
            with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as events:
                give_stream(con, "lake_events", events)
                yield Part.WHOLE
            path.unlink()
    finally:
        shutil.rmtree(folder)


def _count(rows: int) -> int:
    return -(-rows // policy.AT_ONCE)


def _ranges(rows: int) -> list[tuple[int, int]]:
    """Ranges of keys in each of which are about as many of some events as are taken in at once."""
    count = _count(rows)
    lows = [-(2**63) + (place << 64) // count for place in range(count)]
    return list(zip(lows, [low - 1 for low in [*lows[1:], 2**63]], strict=False))


def _divided(con: duckdb.DuckDBPyConnection, folder: Path, count: int) -> list[Path]:
    """Write `lake_events` to so many files: those of one subject to one, by its key."""
    paths = [folder / f"{place}.arrow" for place in range(count)]
    with con.sql(sql("state", "columns")).to_arrow_reader(_ROWS) as events:
        how = pa.ipc.IpcWriteOptions(compression="lz4")
        writers = [pa.ipc.new_stream(path, events.schema, options=how) for path in paths]
        for some in events:
            keys = some.column("subject_high").to_numpy()
            places = ((keys >> 32) + 2**31) * count >> 32
            order = np.argsort(places, kind="stable")
            ordered, ends = some.take(pa.array(order)), np.cumsum(np.bincount(places, minlength=count)).tolist()
            for writer, start, end in zip(writers, [0, *ends], ends, strict=False):
                writer.write_batch(ordered.slice(start, end - start))
        for writer in writers:
            writer.close()
    return paths
