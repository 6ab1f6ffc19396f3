"""Writing a history into a lake, as ingest would have left it."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from metering.events.keys import lake_keys
from metering.events.merging import placed
from metering.lake import Batch, Lake
from metering.schema import arrow_schema

from .draws import Ints, below, words
from .history import READY, REGIONS, RETRACTED, TYPES, VM_DELETED, Events, History

BUCKETS = 36
"""Parts into which a history is split on its way to the lake, so that it never has to fit into memory."""

_HEX = np.array([f"{byte:02x}".encode() for byte in range(256)], "S2")


def make_lake(root: Path, history: History, batches: int = BUCKETS) -> Lake:
    """A lake that took the history in so many batches of equal time."""
    lake = Lake(root)
    scratch = root / ".bench.part"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        per_bucket = -(-batches // BUCKETS)
        _split(scratch, history, batches, per_bucket)
        for bucket in range(-(-batches // per_bucket)):
            events = _load(scratch, bucket)
            number = _batch_of(events.time, history, batches)
            for batch in range(bucket * per_bucket, min((bucket + 1) * per_bucket, batches)):
                add_batch(lake, history, events.take(number == batch))
    finally:
        shutil.rmtree(scratch)
    return lake


def add_batch(lake: Lake, history: History, events: Events) -> None:
    """Commit events as the lake's next batch."""
    if not len(events):
        return
    batch = lake.manifest().last_batch + 1
    ingested_at = int(events.time.max())
    table = rows(history, events.sorted(), batch, ingested_at)
    file = lake.write_events(f"{batch:08}", [table], len(table))
    lake.commit(Batch(batch=batch, ingested_at=ingested_at, events=file))


def _batch_of(time: Ints, history: History, batches: int) -> Ints:
    return (time - history.start) * batches // (history.end - history.start)


def _split(scratch: Path, history: History, batches: int, per_bucket: int) -> None:
    """Append each piece's events to the files of the buckets in which they lie."""
    for piece in history.pieces():
        bucket = _batch_of(piece.time, history, batches) // per_bucket
        order = np.argsort(bucket, kind="stable")
        sorted_piece, sorted_bucket = piece.take(order), bucket[order]
        edges = np.flatnonzero(np.diff(sorted_bucket)) + 1
        for rows_of in np.split(np.arange(len(piece)), edges):
            if len(rows_of):
                for name, column in zip(Events.__annotations__, sorted_piece.take(rows_of).columns(), strict=True):
                    with (scratch / f"{sorted_bucket[rows_of[0]]}.{name}").open("ab") as file:
                        column.tofile(file)


def _load(scratch: Path, bucket: int) -> Events:
    columns = []
    for name in Events.__annotations__:
        path = scratch / f"{bucket}.{name}"
        columns.append(np.fromfile(path, np.int8 if name == "type" else np.int64) if path.exists() else _NONE[name])
        path.unlink(missing_ok=True)
    return Events(*columns)


_NONE: dict[str, NDArray[Any]] = {
    name: np.empty(0, np.int8 if name == "type" else np.int64) for name in Events.__annotations__
}


# Texts


def rows(history: History, events: Events, batch: int = 1, ingested_at: int = 0) -> pa.Table:
    """The columns of the relation `events`."""
    schema = arrow_schema("events")
    n = len(events)
    of_vm = events.type == VM_DELETED
    ready = events.type == READY
    resource = np.where(of_vm, events.subject, history.resource(events.subject))
    is_vm = of_vm | history.is_vm(events.subject)
    source = pa.array([f"/compute/{region}" for region in REGIONS]).take(pa.array(history.region(resource)))
    retracted = events.type == RETRACTED
    snapshots = _texts(b"snap-", words(0, "snapshot", events.subject))
    resources = _either(
        is_vm,
        _texts(b"vm-", words(0, "resource", resource)),
        _texts(b"vol-", words(0, "resource", resource)),
    )
    subject = _either(of_vm, resources, snapshots)
    account = history.account(resource)
    named = ready & (below(history.draw("named", events.subject), 2) == 0)
    project = account * 4 + below(history.draw("project", resource), 4)
    columns = {
        "batch": pa.array(np.full(n, batch)),
        "ingested_at": pa.array(np.full(n, ingested_at)),
        "source": source,
        "id": _event_ids(events.name),
        "type": pa.array(TYPES).take(pa.array(events.type)),
        "subject": subject,
        "time": pa.array(events.time),
        "account_id": _where(ready, _numbered("acc-", account)),
        "project_id": _where(ready, _numbered("prj-", project)),
        "region": _where(ready, pa.array(REGIONS).take(pa.array(history.region(resource)))),
        "resource_type": _where(ready, _either(is_vm, pa.array(["vm"] * n), pa.array(["volume"] * n))),
        "resource_id": _where(ready, resources),
        "name": _where(named, _numbered("daily-", below(history.draw("name", events.subject), 10**6))),
        "size_bytes": pa.array(events.size_bytes, mask=~(events.size_bytes > 0)),
        "retracted_source": _where(retracted, source),
        "retracted_id": _where(retracted, _event_ids(events.retracts)),
        "seq": pa.array(np.arange(1, n + 1)),
    }
    columns |= lake_keys(pa.table(columns))
    table = pa.table(columns)
    bounds = [0, *(np.flatnonzero(np.diff(events.type)) + 1).tolist(), n]
    table = pa.concat_tables([placed(table.slice(start, end - start)) for start, end in pairwise(bounds)])
    return table.append_column("place", pa.array(np.arange(1, n + 1))).select(schema.names).cast(schema)


def _event_ids(name: Ints) -> pa.Array:
    return _texts(b"", words(0, "event", name), words(1, "event", name))


def _texts(prefix: bytes, *numbers: NDArray[np.uint64]) -> pa.Array:
    """Texts of one width: a prefix and numbers in hexadecimal; made as bytes, a hundred times faster than by str."""
    n = len(numbers[0])
    width = len(prefix) + 16 * len(numbers)
    letters = np.empty((n, width), np.uint8)
    letters[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
    for place, number in enumerate(numbers):
        digits = _HEX[number.astype(">u8").view(np.uint8)].view(np.uint8).reshape(n, 16)
        letters[:, len(prefix) + 16 * place :][:, :16] = digits
    offsets = np.arange(n + 1, dtype=np.int32) * np.int32(width)
    return pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(letters))


def _numbered(prefix: str, numbers: Ints) -> pa.Array:
    found, places = np.unique(numbers, return_inverse=True)
    return pa.array([f"{prefix}{number:05}" for number in found.tolist()], pa.string()).take(pa.array(places))


def _where(condition: NDArray[np.bool_], texts: pa.Array) -> pa.Array:
    return pc.if_else(pa.array(condition), texts, pa.scalar(None, texts.type))


def _either(condition: NDArray[np.bool_], yes: pa.Array, no: pa.Array) -> pa.Array:
    return pc.if_else(pa.array(condition), yes, no)
