"""One ingest run: sources in, at most one batch out, all of it or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from metering.errors import MeteringError
from metering.events.keys import subject_keys
from metering.events.lines import CANDIDATES, FAULTS, Checked, check_lines
from metering.events.rows import checked_rows
from metering.events.sources import Source, Unreadable, chunks
from metering.lake import Batch, Lake, connect, define
from metering.lake.store import PARQUET, File

SCRATCH = ".ingest.part"
"""Folder below the lake for what a run holds before its commit; a killed run's is swept by the next."""

Progress = Callable[[int, int], None]
"""Told the bytes done and the bytes in all (0 if unknown) of the files."""

_SEQ_PER_FILE = 2**40
_KEYS = pa.schema([("subject_high", pa.int64()), ("subject_low", pa.int64())])
_FEW_VALUES = ["source", "type", "account_id", "project_id", "region", "resource_type"]
"""Columns worth a dictionary in the scratch files; on the others it costs time and saves nothing."""


@dataclass
class IngestResult:
    """What a run did; `batch` is None if it added neither an event nor a quarantine row."""

    batch: int | None = None
    accepted: int = 0
    duplicates: int = 0
    quarantined: int = 0
    conflicts: int = 0
    files: int = 0
    lines: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    read: list[Source] = field(default_factory=list)

    @property
    def needs_person(self) -> bool:
        """Whether the run met something new that somebody must look at."""
        return bool(self.quarantined or self.unreadable)


def ingest(
    lake: Lake,
    sources: list[Source],
    now: int,
    *,
    progress: Progress | None = None,
    memory_limit: str | None = None,
) -> IngestResult:
    """Check, de-duplicate and commit what the sources hold; the caller holds the run lock.

    A file that cannot be read to its end is left aside whole and named in the result.
    """
    result = IngestResult()
    if not sources:
        return result
    scratch = lake.root / SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir(parents=True)
        files = _read_all(sources, scratch, result, progress)
        with connect(memory_limit, scratch / "spill") as con:
            _define(con, lake, scratch, files, now)
            _write(con, lake, now, result)
    except (OSError, duckdb.Error) as error:
        raise MeteringError(
            f"Ingest failed: {error}",
            unchanged="The lake is as it was.",
            remedy="Look at disk space and memory, then run the same command again.",
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return result


class _Sink:
    """The scratch files of a run: appended to while reading, so that memory stays bounded."""

    def __init__(self, scratch: Path) -> None:
        place = [pa.field("seq", pa.int64()), pa.field("file_no", pa.int64())]
        self._writers = [
            pq.ParquetWriter(
                scratch / f"{name}.parquet",
                pa.schema([*place, *schema]),
                compression="lz4",
                use_dictionary=_FEW_VALUES,
                write_statistics=False,
            )
            for name, schema in (("read_candidates", pa.schema([*CANDIDATES, *_KEYS])), ("read_faults", FAULTS))
        ]

    def add(self, file_no: int, checked: Checked) -> None:
        """Keep what became of a chunk."""
        events = checked.events
        for name, keys in zip(_KEYS.names, subject_keys(events["subject"].to_pylist()), strict=True):
            events = events.append_column(name, keys)
        for writer, table in zip(self._writers, (events, checked.faults), strict=True):
            if table.num_rows:
                seq = pa.array(table["line"].to_numpy() + file_no * _SEQ_PER_FILE, pa.int64())
                number = pa.array([file_no] * table.num_rows, pa.int64())
                writer.write_table(pa.Table.from_arrays([seq, number, *table.columns], schema=writer.schema))

    def close(self) -> None:
        """Finish the files."""
        for writer in self._writers:
            writer.close()


def _read_all(sources: list[Source], scratch: Path, result: IngestResult, progress: Progress | None) -> pa.Table:
    sink = _Sink(scratch)
    total = sum(source.size_bytes for source in sources)
    done = 0
    readable = []
    try:
        for file_no, source in enumerate(sources):
            lines = 0
            try:
                for checked in _checked(source):
                    lines += checked.lines
                    sink.add(file_no, checked)
            except Unreadable as error:
                result.unreadable.append(f"{source.path or source.name}: {error}")
                readable.append(False)
            else:
                result.files += 1
                result.lines += lines
                result.read.append(source)
                readable.append(True)
            done += source.size_bytes
            if progress:
                progress(done, total)
    finally:
        sink.close()
    return pa.table(
        {
            "file_no": pa.array(range(len(sources)), pa.int64()),
            "name": pa.array([source.name for source in sources], pa.string()),
            "readable": pa.array(readable, pa.bool_()),
        }
    )


def _checked(source: Source) -> Iterator[Checked]:
    if source.is_parquet:
        yield from checked_rows(source)
        return
    line = 1
    for chunk in chunks(source):
        checked = check_lines(chunk, line)
        line += checked.lines
        yield checked


def _define(con: duckdb.DuckDBPyConnection, lake: Lake, scratch: Path, files: pa.Table, now: int) -> None:
    lake.attach(con)
    for name in ("read_candidates", "read_faults"):
        con.read_parquet(str(scratch / f"{name}.parquet")).create_view(name)
    run = pa.table({"batch": [lake.manifest().last_batch + 1], "ingested_at": [now]})
    for name, table in (("run_files", files), ("run", run)):
        con.register(name, table)
    define(con, "events", "files", "candidates")
    define(con, "events", "first_lines", "known", "new_lines", kind="TABLE")
    define(con, "events", "taken")
    define(con, "events", "repeats", kind="TABLE")
    define(con, "events", "conflicts", "bad_lines")
    define(con, "events", "new_quarantine", kind="TABLE")
    define(con, "events", "accepted", "repeat_counts")


def _write(con: duckdb.DuckDBPyConnection, lake: Lake, now: int, result: IngestResult) -> None:
    result.duplicates = _number(con, "SELECT duplicates FROM repeat_counts")
    result.accepted = _number(con, "SELECT count(*) FROM new_lines")
    reasons = con.execute("SELECT reason, count(*) FROM new_quarantine GROUP BY reason ORDER BY reason")
    result.reasons = dict(reasons.fetchall())
    result.quarantined = sum(result.reasons.values())
    result.conflicts = result.reasons.get("conflict", 0)
    if not result.accepted and not result.quarantined:
        return
    batch = _number(con, "SELECT batch FROM run")
    file = f"{batch:08}.parquet"
    events = _store(con, lake, f"events/{file}", "accepted", result.accepted)
    quarantine = _store(con, lake, f"quarantine/{file}", "new_quarantine", result.quarantined)
    lake.commit(
        Batch(
            batch=batch,
            ingested_at=now,
            events=events,
            quarantine=quarantine,
            duplicates=result.duplicates,
        )
    )
    result.batch = batch


def _number(con: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(con.execute(query).fetchall()[0][0])


def _store(con: duckdb.DuckDBPyConnection, lake: Lake, path: str, relation: str, rows: int) -> File | None:
    if not rows:
        return None

    def copy(part: Path) -> None:
        settings: dict[str, Any] = PARQUET
        con.table(relation).write_parquet(str(part), **settings)

    return lake.write(path, copy, rows)
