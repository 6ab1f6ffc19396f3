"""One ingest run: sources in, at most one batch out, all of it or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from metering.errors import MeteringError
from metering.events.arrays import column, numbers, repeated, whole
from metering.events.identities import KINDS, Brought, Identities, of_batch
from metering.events.lines import CANDIDATES, FAULTS
from metering.events.merging import ROWS, Run, by_type_and_time
from metering.events.reading import KEYS, Part, checked_parts
from metering.events.scratch import RawLines, Store
from metering.events.seen import Seen
from metering.events.sources import Broken, Source
from metering.lake import Batch, Lake, connect, define, every, single
from metering.lake.entries import ExternalSort
from metering.lake.layout import PARQUET, ROW_GROUP
from metering.schema import arrow_schema
from metering.sql import sql
from metering.values import counted, printable

SCRATCH = ".ingest.part"
"""Folder below the lake for what a run holds before its commit; a killed run's is swept by the next."""

MOST_NAMED = 20
"""So many quarantined lines are named; the others are counted."""

FEW_LINES = 100_000
"""So many lines, new ones and those that they may repeat, are compared in memory."""

HELD_BYTES, FEW_BYTES = 3 * 2**27, 2**24
"""How much of the new events, and of each of the others, is kept in memory instead of being written twice."""

Progress = Callable[[int, int, int], None]
"""Told the bytes done, the bytes in all (0 if unknown) and the lines read."""

_FRESH = pa.schema([*CANDIDATES, *KEYS, pa.field("seq", pa.int64())])
_SUSPECTS = pa.schema([*CANDIDATES, *KEYS, pa.field("raw", pa.binary())])


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
    named: list[str] = field(default_factory=list)
    """The first of the quarantined lines, each in a sentence."""
    unreadable: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    read: list[Source] = field(default_factory=list)

    @property
    def told(self) -> str:
        """What the run did, in one line."""
        counts = (counted(self.files, "file"), counted(self.accepted, "event"), counted(self.duplicates, "repeat"))
        return f"{', '.join(counts)}, {counted(self.quarantined, 'line')} quarantined"

    def left(self) -> Iterator[str]:
        """What is no event now, for people: files first; of lines and strangers the first are named, the others
        counted."""
        yield from (f"not read: {reason}" for reason in self.unreadable)
        yield from (f"not taken: {name}: no file with the name of an event file" for name in self.ignored[:MOST_NAMED])
        if len(self.ignored) > MOST_NAMED:
            yield f"not taken: {len(self.ignored) - MOST_NAMED} more in the inbox"
        yield from (f"quarantined: {line}" for line in self.named)
        if self.quarantined > len(self.named):
            more = counted(self.quarantined - len(self.named), "more line")
            yield f"quarantined: {more}: see `metering quarantine`"

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
    lost: Sequence[Batch] = (),
) -> IngestResult:
    """Check, de-duplicate and commit what the sources hold; the caller holds the run lock.

    A file that cannot be read to its end is left aside whole and named in the result. The batch takes the place of
    `lost` ones too, which follow it empty.
    """
    result = IngestResult()
    if not sources:
        return result
    scratch = lake.root / SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir(parents=True)
        # The number of the batch is decided before anything is: what others commit meanwhile was not looked at.
        batch = lake.manifest().last_batch + 1
        index = Identities(lake)
        index.catch_up()
        held = _Held(scratch, lake, sources)
        try:
            held.read(result, progress)
        finally:
            held.close()
        # An engine of its own, which can spill to disk, takes longer to start than a night's work on few lines.
        with connect(memory_limit, scratch / "spill" if held.is_large() else None) as con:
            _settle(con, lake, held, batch, now, result)
            keys = ExternalSort(scratch, KINDS)
            _write(con, lake, held, batch, now, result, lost, keys)
        if result.batch:
            index.catch_up(Brought(batch, keys.sources()))
    except (OSError, duckdb.Error, pa.ArrowException) as error:
        raise MeteringError(
            f"Ingest failed: {error}",
            unchanged="The lake is as it was.",
            remedy="Look at disk space and memory, then run the same command again.",
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return result


class _Mark(NamedTuple):
    """Where everything was before a file."""

    stores: list[tuple[int, int]]
    runs: int
    lines: int


class _Held:
    """What a run has read: events that are new for sure, events that may be repeats, and faults.

    Lines are counted through all files, from 0.
    """

    def __init__(self, scratch: Path, lake: Lake, sources: list[Source]) -> None:
        self.lake = lake
        self.sources = sources
        self.seen = Seen(lake, sum(source.size_bytes for source in sources) or 2**30)
        self.raw = RawLines(scratch / "raw.jsonl.zst")
        self.fresh = Store(scratch / "fresh.arrow", _FRESH, HELD_BYTES)
        self.more = Store(scratch / "more.arrow", _FRESH, FEW_BYTES)
        self.suspects = Store(scratch / "suspects.arrow", _SUSPECTS, FEW_BYTES)
        self.faults = Store(scratch / "faults.arrow", FAULTS, FEW_BYTES)
        self.stores: list[Store | RawLines] = [self.fresh, self.suspects, self.faults, self.raw]
        self.runs: list[Run] = []
        self.files: list[tuple[int, int]] = []
        self.lines = 0
        self._before = _Mark([], 0, 0)

    def read(self, result: IngestResult, progress: Progress | None) -> None:
        """Check all sources, and keep what comes of the readable ones."""
        total = sum(source.size_bytes for source in self.sources)
        for part in checked_parts(self.sources):
            if isinstance(part, Broken):
                source = self.sources[part.file_no]
                result.unreadable.append(f"{printable(source.path or source.name)}: {part.reason}")
                self._forget(part.file_no)
                continue
            self._keep(part)
            if progress:
                progress(part.done, total, self.lines)
        result.files = len(self.files)
        result.lines = self.lines
        result.read = [self.sources[file_no] for file_no, _ in self.files]

    def _keep(self, part: Part) -> None:
        if part.begins:
            # Only the last file of a part may go on, and then it is alone in it: see `sources.pieces`.
            self._before = _Mark([store.mark() for store in self.stores], len(self.runs), self.lines)
            self.files += [(file_no, self.lines + before) for file_no, before in part.begins]
        checked = part.checked
        runs = [run for run in checked.runs if run.num_rows]
        is_fresh = np.zeros(checked.lines, np.bool_)
        if runs:
            keys, lines = (np.concatenate([numbers(run[name]) for run in runs]) for name in ("key", "line"))
            met = self.seen.meet(keys, lines)
            is_fresh[lines[~met]] = True
            if met.any():
                ends = np.cumsum([run.num_rows for run in runs])[:-1]
                for run, again in zip(runs, np.split(met, ends), strict=True):
                    suspects = run.take(whole(np.flatnonzero(again)))
                    raw = column([checked.raw(line) for line in suspects["line"].to_pylist()], pa.binary())
                    self.suspects.add(self._counted(suspects.append_column("raw", raw)))
                runs = [
                    run.take(whole(np.flatnonzero(~again)))
                    for run, again in zip(runs, np.split(met, ends), strict=True)
                ]
            seq = self.raw.lines + np.cumsum(is_fresh)
            for run in runs:
                run = run.append_column("seq", whole(seq[numbers(run["line"])]))
                self._add_run(self.fresh, self.runs, self._counted(run))
            self.raw.add(partial(checked.raws, is_fresh), int(is_fresh.sum()))
        self.faults.add(self._counted(checked.faults))
        self.lines += checked.lines

    def _counted(self, table: pa.Table) -> pa.Table:
        line = whole(numbers(table["line"]) + self.lines)
        return table.set_column(table.schema.get_field_index("line"), "line", line)

    @staticmethod
    def _add_run(store: Store, runs: list[Run], table: pa.Table) -> None:
        if table.num_rows:
            times = table["time"]
            kind = table["type"][0].as_py()
            number = store.add(table)
            runs.append(Run(store, number, kind, table.num_rows, times[0].as_py(), times[-1].as_py()))

    def _forget(self, file_no: int) -> None:
        """Take back what a file brought that broke off."""
        if self.files and self.files[-1][0] == file_no:
            for store, mark in zip(self.stores, self._before.stores, strict=True):
                store.rewind(mark)
            del self.runs[self._before.runs :]
            self.lines = self._before.lines
            self.files.pop()

    def close(self) -> None:
        """Finish the files; what was read can be opened then."""
        for store in (self.fresh, self.suspects, self.faults):
            store.close()

    @property
    def is_plain(self) -> bool:
        """Whether every line is an event, and none may repeat another."""
        return not self.suspects.rows and not self.faults.rows

    def is_large(self) -> bool:
        """Whether there is so much to compare that memory may not hold it."""
        met = (batch for batch in self.lake.manifest().batches if batch.batch in self.seen.batches and batch.events)
        return self.lines + sum(batch.events.rows for batch in met if batch.events) > FEW_LINES

    def file_table(self) -> pa.Table:
        """The files that hold lines: name, first line, and one past the last."""
        firsts = [first for _, first in self.files]
        rows = [
            (self.sources[file_no].name, first, last)
            for (file_no, first), last in zip(self.files, [*firsts, self.lines][1:], strict=True)
            if last > first
        ]
        columns = list(zip(*rows, strict=True)) or [(), (), ()]
        kinds = {"name": pa.string(), "first": pa.int64(), "last": pa.int64()}
        return pa.table(
            {name: column(values, kind) for (name, kind), values in zip(kinds.items(), columns, strict=True)}
        )


def _settle(
    con: duckdb.DuckDBPyConnection, lake: Lake, held: _Held, batch: int, now: int, result: IngestResult
) -> None:
    """Find the repeats and conflicts, and which bad lines are new."""
    lake.attach(con)
    if held.is_plain:
        return
    lake.attach_batches(con, "met_batches", sorted(held.seen.batches))
    run = pa.table({"batch": column([batch], pa.int64()), "ingested_at": column([now], pa.int64())})
    suspects = held.suspects.table()
    tables = {
        "fresh": held.fresh.rows_of("key", numbers(suspects["key"])),
        "suspects": suspects,
        "read_faults": held.faults.table(),
        "files": held.file_table(),
        "run": run,
    }
    for name, table in tables.items():
        con.register(name, table)
    define(con, "events", "candidates", "first_lines", "known", "new_lines", kind="TABLE")
    define(con, "events", "taken")
    define(con, "events", "repeats", kind="TABLE")
    define(con, "events", "conflicts", "bad_lines")
    define(con, "events", "bad_keys", "new_bad_lines", kind="TABLE")
    define(con, "events", "new_quarantine", "repeat_counts", "late_events")
    result.duplicates = int(single(con, every("repeat_counts", "duplicates")))
    result.reasons = dict(con.execute(sql("events", "bad_line_reasons")).fetchall())
    result.quarantined = sum(result.reasons.values())
    if result.quarantined:
        found = con.execute(sql("events", "first_bad_lines"), [MOST_NAMED])
        result.named = [f"{file}, line {line}: {reason}: {message}" for file, line, reason, message in found.fetchall()]
    result.conflicts = result.reasons.get("conflict", 0)


def _write(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    held: _Held,
    batch: int,
    now: int,
    result: IngestResult,
    lost: Sequence[Batch],
    keys: ExternalSort,
) -> None:
    """Write and commit what is new; the keys of the identities that it brings are added to `keys`."""
    more = [] if held.is_plain else _late_runs(con, held)
    held.more.close()
    held.raw.close()
    result.accepted = held.raw.lines
    if not result.accepted and not result.quarantined:
        return
    events = raw = quarantine = None
    if result.accepted:
        tables = _stored(held, more, batch, now, keys)
        events = lake.write_events(f"{batch:08}", tables, result.accepted)
        raw = lake.write(f"raw/{batch:08}.jsonl.zst", held.raw.move, result.accepted)
    if result.quarantined:
        settings: dict[str, Any] = {**PARQUET, "row_group_size": ROW_GROUP, "row_group_size_bytes": "64MB"}

        def copy(part: Path) -> None:
            con.table("new_quarantine").write_parquet(str(part), **settings)

        quarantine = lake.write(f"quarantine/{batch:08}.parquet", copy, result.quarantined)
    lake.commit(
        Batch(
            batch=batch,
            ingested_at=now,
            events=events,
            raw=raw,
            quarantine=quarantine,
            duplicates=result.duplicates,
        ),
        *lost,
    )
    result.batch = batch


def _late_runs(con: duckdb.DuckDBPyConnection, held: _Held) -> list[Run]:
    """Runs of the events that looked like repeats and are none, in the store `more`."""
    runs: list[Run] = []
    for batch in con.sql(every("late_events", order="line")).to_arrow_reader(ROWS):
        late = pa.Table.from_batches([batch])
        lines = [raw + b"\n" for raw in late["raw"].to_pylist()]
        seq = whole(np.arange(held.raw.lines + 1, held.raw.lines + 1 + len(lines)))
        held.raw.add(partial(b"".join, lines), len(lines))
        late = late.drop_columns(["raw"]).append_column("seq", seq)
        late = late.sort_by([("type", "ascending"), ("time", "ascending"), ("line", "ascending")])
        for kind in late["type"].unique().to_pylist():
            held._add_run(held.more, runs, late.filter(pc.equal(late["type"], repeated(kind, late.num_rows))))
    return runs


def _stored(held: _Held, more: list[Run], batch: int, now: int, keys: ExternalSort) -> Iterator[pa.Table]:
    """The events of the batch as the lake stores them; the keys of their identities are added to `keys`."""
    schema = arrow_schema("events")
    place = 1
    for table in by_type_and_time([*held.runs, *more]):
        keys.add(of_batch(numbers(table["key"]), batch))
        added = {
            "batch": whole(np.full(table.num_rows, batch)),
            "ingested_at": whole(np.full(table.num_rows, now)),
            "place": whole(np.arange(place, place + table.num_rows)),
        }
        place += table.num_rows
        columns = [added[each.name] if each.name in added else table[each.name] for each in schema]
        yield pa.Table.from_arrays(columns, schema=schema)
