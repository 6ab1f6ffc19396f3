"""The ledger's copy in the lake: after each run, what the run recorded, as an immutable file of its own.

A file holds the rows of every table that are new since the file before it, and those older ones that might have
changed. Together they are the whole ledger, so a ledger that was lost or put back from an older backup is brought
to where it was, row by row. A file is written after the commit that it tells of: the ledger may be ahead of the
lake, never the other way round. A ledger that is behind was put back.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from metering.durable import sync
from metering.errors import MeteringError, NeedsPerson
from metering.failpoints import failpoint
from metering.lake.files import Files, sha256_of
from metering.ledger.book import Book, put_rows
from metering.ledger.postings import refresh_status
from metering.ledger.runs import OF_RUNS
from metering.ledger.seals import sealed_tables
from metering.ledger.tables import counter, last_rows, metadata
from metering.schema import table as schema

FOLDER = "ledger"
VERSION = 1
_SUFFIX = ".jsonl.zst"
_DIGITS = 16
_NAME = re.compile(rf"{FOLDER}/(?P<number>\d+)-(?P<digest>[0-9a-f]{{{_DIGITS}}}){re.escape(_SUFFIX)}")
_MANY = 5_000
"""Rows that are held in memory at once."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a file: where it stands in the chain, and what the ledger held after it."""

    number: int
    previous: str
    """SHA-256 of the file before."""
    run: int
    made_at: int
    through: dict[str, int]
    """The last row of each table, in the order of recording."""
    tip: list[Any]
    """Number, command and start of the last run, by which a ledger is recognized."""
    seal: str
    """The hash of the last seal's last row."""
    moving: dict[str, list[int]]
    """Rows that may still change; the next file tells of them again."""
    moving_hash: str
    columns: dict[str, list[str]]
    version: int = VERSION


class Behind(NeedsPerson):
    """The ledger is older than its copy in the lake."""


def archived_tables() -> list[str]:
    """Every table but what is only a cache."""
    return [*sealed_tables(), "seals"]


def _columns(name: str) -> list[str]:
    return [str(column.name) for column in metadata().tables[name].columns]


# Writing


def append(book: Book, files: Files, run: int, made_at: int) -> str | None:
    """Write what was recorded since the last file; None if there is nothing to tell, or others are at it: the next
    run tells of it then.
    """
    if not book.exists:
        return None
    with files.alone(FOLDER) as mine, book.read() as con:
        if not mine:
            return None
        name = _newest(files)
        last = _header(files, name) if name else None
        through = _through(con)
        moving = _moving(con)
        digest = _hash_of(con, moving)
        told = last.through if last else {}
        grown = {name for name, count in through.items() if count > told.get(name, 0)} - OF_RUNS
        moved = last is not None and _hash_of(con, last.moving) != last.moving_hash
        if not grown and not moved:
            return None
        header = Header(
            number=last.number + 1 if last else 1,
            previous=sha256_of(_local(files, name)) if name else "",
            run=run,
            made_at=made_at,
            through=through,
            tip=tip_of(con, through["runs"]),
            seal=_seal(con, through["seals"]),
            moving=moving,
            moving_hash=digest,
            columns={name: _columns(name) for name in archived_tables()},
        )
        failpoint("ledger.before_archive")
        return _write(files, header, _rows(con, told, through, last.moving if last else {}))


def _through(con: sa.Connection) -> dict[str, int]:
    return {row.name: row.last for row in con.execute(last_rows(*archived_tables()))}


def _moving(con: sa.Connection) -> dict[str, list[int]]:
    """The rows that may still change: live intents and their payments, pending refunds, runs that have not ended."""
    return {name: sorted(con.scalars(query)) for name, query in _queries_of_moving().items()}


@cache
def _queries_of_moving() -> dict[str, sa.Select[tuple[int]]]:
    table = metadata().tables
    intents, payments, corrections = table["intents"], table["payments"], table["corrections"]
    live = sa.select(intents.c.intent).where(intents.c.live == 1)
    return {
        "intents": sa.select(intents.c.recorded).where(intents.c.live == 1),
        "payments": sa.select(payments.c.recorded).where(payments.c.intent.in_(live)),
        "corrections": sa.select(corrections.c.recorded).where(
            corrections.c.kind == "refund", corrections.c.transaction.is_(None)
        ),
        "runs": sa.select(table["runs"].c.run).where(table["runs"].c.ended_at.is_(None)),
    }


def _hash_of(con: sa.Connection, moving: Mapping[str, list[int]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(moving.keys() - {"runs"}):
        for row in _some(con, name, moving[name]):
            digest.update(msgspec.json.encode([name, *row]))
    return digest.hexdigest()


def _some(con: sa.Connection, name: str, counts: list[int]) -> Iterator[sa.Row[Any]]:
    """Rows of a table by their counts, in order."""
    for start in range(0, len(counts), 500):
        yield from con.execute(_these(name), {"counts": counts[start : start + 500]})


@cache
def _these(name: str) -> sa.Select[Any]:
    """The statement for the rows of a table with some `counts`. To build one takes longer than to execute it."""
    column = metadata().tables[name].c[counter(name)]
    return sa.select(column.table).where(column.in_(sa.bindparam("counts", expanding=True))).order_by(column)


@cache
def _later(name: str) -> sa.Select[Any]:
    """The statement for the rows of a table after `since`."""
    column = metadata().tables[name].c[counter(name)]
    return sa.select(column.table).where(column > sa.bindparam("since")).order_by(column)


def _rows(
    con: sa.Connection, told: Mapping[str, int], through: Mapping[str, int], moving: Mapping[str, list[int]]
) -> Iterator[list[Any]]:
    """The rows that no file tells of, and those that may have changed since one did."""
    for name in archived_tables():
        since = told.get(name, 0)
        for row in _some(con, name, [count for count in moving.get(name, []) if count <= since]):
            yield [name, *row]
        if through[name] <= since:
            continue
        for row in con.execute(_later(name), {"since": since}, execution_options={"yield_per": _MANY}):
            yield [name, *row]


def _write(files: Files, header: Header, rows: Iterator[list[Any]]) -> str:
    import pyarrow as pa

    part = files.root / FOLDER / f".{header.number:06}{_SUFFIX}.part"
    part.parent.mkdir(parents=True, exist_ok=True)
    with pa.CompressedOutputStream(str(part), "zstd") as file:
        file.write(msgspec.json.encode(header) + b"\n")
        encode = msgspec.json.Encoder().encode
        while lines := [encode(row) for row in islice(rows, _MANY)]:
            file.write(b"\n".join((*lines, b"")))
    sync(part)
    name = f"{FOLDER}/{header.number:06}-{sha256_of(part)[:_DIGITS]}{_SUFFIX}"
    files.add(part, name)
    return name


# Reading


def newest(files: Files) -> Header | None:
    """The header of the last file; None if there is none."""
    name = _newest(files)
    return _header(files, name) if name else None


def _newest(files: Files) -> str | None:
    return files.last(FOLDER, _SUFFIX)


def _numbered(files: Files) -> dict[int, str]:
    """The name of each number's file, in order; it holds the beginning of its SHA-256."""
    found: dict[int, str] = {}
    for name in files.names(f"{FOLDER}/"):
        if match := _NAME.fullmatch(name):
            found.setdefault(int(match["number"]), name)
    return dict(sorted(found.items()))


def _local(files: Files, name: str) -> Path:
    """Where a file can be read on this machine."""
    return files.find(name) or files.root / name


def _open(path: Path) -> io.BufferedReader:
    import pyarrow as pa

    return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))


def _header(files: Files, name: str) -> Header:
    try:
        with _open(_local(files, name)) as file:
            header = msgspec.json.decode(file.readline(), type=Header)
    except (OSError, msgspec.DecodeError) as error:
        raise _damaged(files, name, str(error)) from None
    if header.version != VERSION:
        raise _damaged(files, name, f"it has version {header.version}, this engine knows {VERSION}")
    return header


def _damaged(files: Files, name: str, why: str) -> MeteringError:
    return MeteringError(
        f"{files.url}/{name} cannot be read: {why.splitlines()[0]}.",
        unchanged="The ledger is as it was.",
        remedy="Put that file back from a backup of the lake.",
    )


def broken(files: Files) -> list[str]:
    """What is wrong with the chain of files: missing or changed ones."""
    found: list[str] = []
    previous = ""
    names = _numbered(files)
    digests = files.digests(names.values())
    for place, (number, name) in enumerate(names.items(), 1):
        if number != place:
            return [*found, f"{FOLDER}/{place:06}{_SUFFIX} is missing"]
        digest = digests[name] or ""
        if name != f"{FOLDER}/{number:06}-{digest[:_DIGITS]}{_SUFFIX}":
            found.append(f"{name} was changed")
        elif _header(files, name).previous != previous:
            found.append(f"{name} does not follow the file before it")
        previous = digest
    return found


def lacking(book: Book, files: Files) -> list[str]:
    """Runs that have ended and posted something that no file tells of."""
    last = newest(files)
    runs, posted = metadata().tables["runs"], metadata().tables["transactions"]
    query = (
        sa.select(sa.func.min(runs.c.run))
        .join(posted, posted.c.run == runs.c.run)
        .where(runs.c.ended_at.is_not(None), posted.c[counter("transactions")] > _told(last, "transactions"))
    )
    with book.read() as con:
        run = con.scalar(query)
    return [] if run is None else [f"{FOLDER}/ does not tell what run {run} posted; the next run writes it"]


def _told(last: Header | None, name: str) -> int:
    return last.through.get(name, 0) if last else 0


# Comparing


def check(book: Book, files: Files) -> None:
    """Raise Behind if the lake knows more of the ledger than it does itself, NeedsPerson if they are of two books."""
    last = newest(files)
    if last is None:
        return
    with book.read() as con:
        here = _through(con)
        missing = [name for name, count in last.through.items() if here.get(name, 0) < count]
        if missing:
            raise Behind(
                f"The ledger {book.name} is older than its copy in the lake, which goes to run {last.run}"
                f" ({here['runs']} runs are in the ledger): it was lost, or put back from a backup.",
                unchanged="Nothing was changed, closed or charged.",
                remedy="Run `metering restore`: it takes over what the ledger lacks, and asks the gateway.",
            )
        if not _is_same(con, last):
            raise _other(book)


def _is_same(con: sa.Connection, header: Header) -> bool:
    """Whether a ledger that goes as far as a file holds that file's last run and seal."""
    return tip_of(con, header.through["runs"]) == header.tip and _seal(con, header.through["seals"]) == header.seal


def tip_of(con: sa.Connection, number: int) -> list[Any]:
    """Number, command and start of a run, by which a ledger is recognized; empty if there is none."""
    runs = metadata().tables["runs"]
    found = con.execute(sa.select(runs.c.run, runs.c.command, runs.c.started_at).where(runs.c.run == number)).first()
    return list(found) if found else []


def _seal(con: sa.Connection, number: int) -> str:
    seals = metadata().tables["seals"]
    return con.scalar(sa.select(seals.c.hash).where(seals.c.recorded == number)) or ""


def _other(book: Book) -> NeedsPerson:
    return NeedsPerson(
        f"The ledger {book.name} and its copy in the lake are not of one book: the same rows differ.",
        unchanged="Nothing was changed, closed or charged.",
        remedy=f"{book.aside} and run `metering restore`: it makes the ledger again from the lake.",
    )


# Taking over


def take_over(con: sa.Connection, book: Book, files: Files) -> dict[str, int]:
    """Add to an older ledger every row that its copy in the lake has; how many rows of each table were added.

    `con` is in a write transaction. Raises NeedsPerson, having written nothing, where the same row differs.
    """
    wrong = broken(files)
    if wrong:
        raise _damaged(files, FOLDER, "; ".join(wrong))
    here = _through(con)
    later = []
    for name in _numbered(files).values():
        header = _header(files, name)
        if any(count > here.get(name, 0) for name, count in header.through.items()):
            later.append((name, header))
        elif not _is_same(con, header):
            raise _other(book)
    newer = _latest(files, later)
    for name in archived_tables():
        _update(con, book, name, {count: row for count, row in newer[name].items() if count <= here[name]})
    added = {
        name: _insert(con, files, name, newer[name], here[name], later[-1][1].through.get(name, 0) if later else 0)
        for name in sorted(archived_tables(), key=lambda name: name != "entries")
    }
    touched = {row["invoice"] for name in ("entries", "invoices", "corrections") for row in newer[name].values()}
    refresh_status(con, touched - {None})
    return added


def _latest(files: Files, told: list[tuple[str, Header]]) -> dict[str, dict[int, dict[str, Any]]]:
    """The last state of every row that some files tell of, by table and count."""
    found: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for file_name, header in told:
        for name, columns in header.columns.items():
            if name not in archived_tables() or columns != _columns(name):
                raise _damaged(files, file_name, f"its table {name} is of another version")
        try:
            with _open(_local(files, file_name)) as file:
                file.readline()
                for line in file:
                    name, *values = msgspec.json.decode(line)
                    row = dict(zip(header.columns[name], values, strict=True))
                    found[name][row[counter(name)]] = row
        except (OSError, msgspec.DecodeError) as error:
            raise _damaged(files, file_name, str(error)) from None
    return found


def _update(con: sa.Connection, book: Book, name: str, known: Mapping[int, dict[str, Any]]) -> None:
    """Bring the columns that may change of rows that the ledger has to their last state."""
    mutable = schema(name).mutable
    table = metadata().tables[name]
    for found in _some(con, name, sorted(known)):
        row = dict(found._mapping)
        wanted = known[row[counter(name)]]
        if any(row[column] != value for column, value in wanted.items() if column not in mutable):
            raise _other(book)
        changes = {column: wanted[column] for column in mutable if row[column] != wanted[column]}
        if changes:
            count = table.c[counter(name)]
            con.execute(table.update().where(count == row[counter(name)]).values(**changes))


def _insert(
    con: sa.Connection, files: Files, name: str, rows: Mapping[int, dict[str, Any]], here: int, through: int
) -> int:
    wanted = range(here + 1, through + 1)
    missing = [count for count in wanted if count not in rows]
    if missing:
        raise _damaged(files, FOLDER, f"row {missing[0]} of {name} is in none of its files")
    if wanted:
        names = tuple(rows[wanted[0]])
        put_rows(con, name, names, (tuple(map(rows[count].__getitem__, names)) for count in wanted))
    return len(wanted)
