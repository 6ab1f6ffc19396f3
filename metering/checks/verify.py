"""`metering verify`: every invariant, one after the other."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from metering.close.files import NAMES, content_hash, path_of
from metering.close.inputs import stored_inputs
from metering.close.order import closed_months
from metering.errors import MeteringError, NeedsPerson
from metering.events.identities import Identities
from metering.home import Home
from metering.lake import connect, define, give_files, raw, reads
from metering.lake.compaction import unlike
from metering.ledger import archive
from metering.ledger.arrow import attach_ledger
from metering.ledger.book import rows
from metering.ledger.postings import chart
from metering.ledger.seals import GENESIS, hashes, sealed_tables
from metering.ledger.tables import counter, last_rows, metadata
from metering.payments.gateway import CardRefund
from metering.schema import empty_table, tables
from metering.sql import sql
from metering.state.check import differences
from metering.values import InvalidValue, counted, parse_money

_NOT_CHECKS = {"booked", "pending"}
_WORD = re.compile(r"\w+")


def verify(home: Home, only: Collection[str] | None = None) -> Iterator[tuple[str, list[str]]]:
    """Each check's name with what breaks it, of all checks or of some.

    A damaged or missing file is a finding, not a failure.
    """
    con = connect(home.config.engine.memory_limit)
    for name, prepare in _files_and_books():
        if only is None or name in only:
            yield name, _guarded(lambda prepare=prepare: prepare(home))  # type: ignore[misc]
    wanted = [name for name in sorted(_checks()) if only is None or name in only]
    if not wanted:
        return
    broken = _guarded(lambda: _attach(con, home, None if only is None else wanted))
    yield "readable", broken
    if broken:
        return
    for name in wanted:
        yield name, _guarded(lambda name=name: _ask(con, name))  # type: ignore[misc]


def _files_and_books() -> tuple[tuple[str, Callable[[Home], list[str]]], ...]:
    return (
        ("ledger_there", _ledger_there),
        ("ledger_copy", _ledger_copy),
        ("event_files", _event_files),
        ("identities", _identities),
        ("lifespans", _lifespans),
        ("close_files", _close_files),
        ("seals", _seals),
        ("seals_told", _seals_told),
        ("stored_inputs", _stored_inputs),
    )


def count_checks() -> int:
    """How many checks there are."""
    return len(_files_and_books()) + 1 + len(_checks())


@cache
def _checks() -> tuple[str, ...]:
    found = (Path(entry.name) for entry in files("metering.checks").iterdir())
    return tuple(path.stem for path in found if path.suffix == ".sql" and path.stem not in _NOT_CHECKS)


def _guarded(check: Callable[[], list[str]]) -> list[str]:
    try:
        return check()
    except (MeteringError, OSError, duckdb.Error, pa.ArrowException, msgspec.MsgspecError, InvalidValue) as error:
        return [f"cannot be checked: {error}".splitlines()[0]]


def _ask(con: duckdb.DuckDBPyConnection, name: str) -> list[str]:
    return [row[0] for row in con.execute(sql("checks", name)).fetchall()]


def _attach(con: duckdb.DuckDBPyConnection, home: Home, wanted: Collection[str] | None) -> list[str]:
    """Define what all checks read, or only what some of them do."""
    words = _words(wanted or _checks())
    read: dict[str, set[str]] = {}
    for name in wanted or ():
        for table, columns in reads(sql("checks", name), _in_the_ledger(), "checks").items():
            read.setdefault(table, set()).update(columns)
    attach_ledger(con, home.book, None if wanted is None else read)
    sandbox = home.path / "sandbox"
    given: dict[str, Callable[[], object]] = {
        "events": lambda: home.lake.attach(con),
        "allocations": lambda: _give_allocations(con, home),
        "chart": lambda: con.register("chart", _chart()),
        "batches": lambda: con.register("batches", _batches(home)),
        "captures": lambda: con.register("captures", _captures(sandbox / "captures.jsonl")),
        "card_refunds": lambda: con.register("card_refunds", _card_refunds(sandbox / "refunds.jsonl")),
    }
    for name, give in given.items():
        if name in words:
            give()
    define(con, "checks", *sorted(_NOT_CHECKS & words))
    return []


def _words(names: Iterable[str]) -> set[str]:
    """The words of checks, and of what they read that is no check itself."""
    found = {word for name in names for word in _WORD.findall(sql("checks", name))}
    return found.union(*(_WORD.findall(sql("checks", name)) for name in _NOT_CHECKS & found))


def _give_allocations(con: duckdb.DuckDBPyConnection, home: Home) -> None:
    with home.book.read() as ledger:
        months = closed_months(ledger)
    found = (home.lake.files.find(path_of(str(month), "allocations")) for month in months)
    paths = [path for path in found if path]
    if paths:
        give_files(con, "allocations", paths)
    else:
        con.register("allocations", empty_table("allocations"))


def _chart() -> pa.Table:
    """The ledger accounts that there are."""
    accounts = [
        {"ledger_account": name, "class": body["class"], "per": body.get("per")} for name, body in chart().items()
    ]
    return pa.Table.from_pylist(
        accounts, pa.schema([(name, pa.string()) for name in ("ledger_account", "class", "per")])
    )


def _batches(home: Home) -> pa.Table:
    """The batches that the manifest names."""
    batches = [{"batch": batch.batch, "ingested_at": batch.ingested_at} for batch in home.lake.manifest().batches]
    return pa.Table.from_pylist(batches, pa.schema([(name, pa.int64()) for name in ("batch", "ingested_at")]))


def _in_the_ledger() -> dict[str, list[str]]:
    return {name: list(table.names) for name, table in tables().items() if table.stored == "ledger"}


def _captures(path: Path) -> pa.Table:
    """The sandbox's own record."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    records = [msgspec.json.decode(line) for line in lines if line.strip()]
    texts = ("intent", "invoice", "customer", "currency")
    columns = {name: pa.array([str(record.get(name)) for record in records], pa.string()) for name in texts}
    amounts = [parse_money(str(record.get("amount")), str(record.get("currency"))) for record in records]
    return pa.table({**columns, "amount_minor": pa.array(amounts, pa.int64())})


def _ledger_there(home: Home) -> list[str]:
    """The ledger is there if anything was ever closed or charged."""
    if home.book.exists or not (home.lake.files.names("closes/") or (home.path / "sandbox/captures.jsonl").exists()):
        return []
    return [f"{home.book.name} is missing, although months were closed; restore it from a backup"]


def _ledger_copy(home: Home) -> list[str]:
    """The ledger's copy in the lake is whole, and the ledger is not older than it."""
    found = archive.broken(home.lake.files)
    try:
        home.check_book()
    except NeedsPerson as error:
        return [*found, error.message]
    return found or archive.lacking(home.book, home.lake.files)


def _card_refunds(path: Path) -> pa.Table:
    """The sandbox's own record of what went back to cards."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    records = [msgspec.json.decode(line, type=CardRefund) for line in lines if line.strip()]
    return pa.table(
        {
            "correction": pa.array([record.correction for record in records], pa.string()),
            "currency": pa.array([record.currency for record in records], pa.string()),
            "amount_minor": pa.array([record.amount_minor for record in records], pa.int64()),
        }
    )


def _event_files(home: Home) -> list[str]:
    """Every file that the manifest names is there, unchanged, and has its rows."""
    found = []
    manifest = home.lake.manifest()
    if manifest.version != manifest.needed_version:
        found.append(f"the manifest has version {manifest.version}")
    for number, batch in enumerate(manifest.batches, 1):
        if batch.batch != number:
            found.append(f"batch {batch.batch} stands in place {number} of the manifest")
    digests = home.lake.files.digests(file.path for file in manifest.tables)
    for file in manifest.tables:
        digest = digests[file.path]
        if digest is None:
            found.append(f"{file.path} is missing")
        elif digest != file.sha256:
            found.append(f"{file.path} was changed")
        elif (rows := pq.read_metadata(home.lake.path(file)).num_rows) != file.rows:
            found.append(f"{file.path} has {counted(rows, 'row')} instead of {file.rows}")
    found += raw.problems(home.lake, manifest)
    return found or [problem for part in manifest.merged for problem in unlike(home.lake, manifest, part)]


def _identities(home: Home) -> list[str]:
    """What the index of identities covers is what the events say."""
    return list(Identities(home.lake).problems())


def _lifespans(home: Home) -> list[str]:
    """The maintained lifespans, where there are any, are those of all events."""
    return differences(home.lake, home.config.engine.memory_limit)


def _close_files(home: Home) -> list[str]:
    """Every file of a close is there and has the content that the close recorded."""
    found = []
    with home.book.read() as con:
        recorded = {(row["month"], row["name"]): row for row in rows(con, "close_files")}
        months = [str(month) for month in closed_months(con)]
    digests = home.lake.files.digests(path_of(month, name) for month in months for name in NAMES)
    for month in months:
        for name in NAMES:
            path = path_of(month, name)
            row = recorded.get((month, name))
            if row is None:
                found.append(f"{month}: no {name} are recorded")
            elif digests[path] is None:
                found.append(f"{path} is missing; `metering close {month}` makes it again")
            elif content_hash(_read_whole(home.lake.at(path))) != row["content_hash"]:
                found.append(f"{path} was changed")
    return found


def _read_whole(path: Path) -> pa.Table:
    """A file's rows; as a data set, which has many files, it would take several times as long to open."""
    with pq.ParquetFile(path) as file:
        return file.read()


def _seals(home: Home) -> list[str]:
    """Every seal is the hash of the table's seal before it and all rows recorded since."""
    found = []
    chains: dict[str, list[dict[str, Any]]] = {name: [] for name in sealed_tables()}
    with home.book.read() as con:
        there = {row.name: row.last for row in con.execute(last_rows(*chains))}
        for seal in rows(con, "seals"):
            name = seal["sealed_table"]
            if name in chains:
                chains[name].append(seal)
            else:
                found.append(f"seal {seal['seal']} of run {seal['run']} is of no table: {name}")
        for name, chain in chains.items():
            before = [(GENESIS, 0), *((seal["hash"], seal["through"]) for seal in chain)]
            again = hashes(con, name, [(before[place][0], seal["through"]) for place, seal in enumerate(chain)])
            for seal, made, (_, since) in zip(chain, again, before, strict=False):
                if seal["through"] > there[name]:
                    found.append(f"seal {seal['seal']} of run {seal['run']} goes beyond the last row of {name}")
                if seal["through"] <= since or made != seal["hash"]:
                    found.append(f"seal {seal['seal']} of run {seal['run']} is broken: {name} was changed under it")
    return found


def _last_row(con: sa.Connection, name: str) -> int:
    """The number of the last row of a table in the order of recording."""
    return con.scalar(sa.select(sa.func.max(metadata().tables[name].c[counter(name)]))) or 0


def _seals_told(home: Home) -> list[str]:
    """Seals count from 1, each is told in the summary of the run that made it, and what ended runs posted is sealed."""
    found = []
    order = {name: place for place, name in enumerate(sealed_tables())}
    with home.book.read() as con:
        runs = {row["run"]: row for row in rows(con, "runs")}
        seals = sorted(rows(con, "seals"), key=lambda row: (row["seal"], order.get(row["sealed_table"], 0)))
        posted = rows(con, "transactions")
        last = _last_row(con, "seals")
    numbers = sorted({row["seal"] for row in seals})
    if numbers != list(range(1, len(numbers) + 1)) or last != len(seals):
        found.append("seals do not count from 1 without gaps")
    for number in numbers:
        members = [row for row in seals if row["seal"] == number]
        digest = hashlib.sha256("".join(row["hash"] for row in members).encode()).hexdigest()
        run = runs.get(members[0]["run"], {})
        if {(row["run"], row["made_at"]) for row in members} != {(run.get("run"), run.get("ended_at"))}:
            found.append(f"seal {number} is not of the run that made it")
        if f"seal {digest[:16]}" not in (run.get("summary") or "").split("; "):
            found.append(f"seal {number} is not the one that run {members[0]['run']} told")
    through = max((row["through"] for row in seals if row["sealed_table"] == "transactions"), default=0)
    found += [
        f"transaction {row['transaction']} of run {row['run']}, which has ended, is under no seal"
        for row in posted
        if row["transaction"] > through and runs.get(row["run"], {}).get("ended_at") is not None
    ]
    return found


def _stored_inputs(home: Home) -> list[str]:
    """The stored inputs of every close still have the hash that was stored with them."""
    found = []
    with home.book.read() as con:
        for close in rows(con, "closes"):
            inputs = stored_inputs(con, close["month"])
            if inputs.hash != close["inputs_hash"]:
                found.append(f"the stored inputs of {close['month']} were changed")
            if inputs.accounts_hash != close["accounts_hash"]:
                found.append(f"the stored accounts of {close['month']} were changed")
    return found
