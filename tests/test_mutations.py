"""`verify` finds every single change: of a column of the ledger, of a file of the lake, of the sandbox's captures.

What it cannot find is named here with the reason why nothing depends on it.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from homes import Home
from test_corrections import everything_once

from metering.checks.verify import verify
from metering.clock import Clock
from metering.home import Home as Engine
from metering.ledger.tables import metadata
from metering.schema import tables
from metering.values import parse_instant

LEDGER = [table.name for table in tables().values() if table.stored == "ledger"]
UNTOUCHED = ["killed_runs", "quarantine_resolutions"]
"""Tables in which the story leaves nothing."""

Excuse = Callable[[dict[str, Any], str], bool]
"""Whether a change is excused: the row before, and the new value as SQL."""

WAITING = ("unknown", "action_required", "declined")
SENTENCE = "a sentence for people; nothing reads it"
GATEWAYS_WORD = "what the gateway said; no money follows from it, and `reconcile gateway` asks again"
NOT_EVIDENCE: dict[tuple[str, str], tuple[str, Excuse]] = {
    ("invoice_status", "recorded"): ("a cache of the entries; its order means nothing", lambda row, new: True),
    ("runs", "summary"): (SENTENCE, lambda row, new: "seal " not in row["summary"]),
    ("runs", "exit_code"): ("how a run ended, for cron; nothing reads it", lambda row, new: True),
    ("runs", "ended_at"): (
        "when a run ended; evidence only where the run made a seal, and proven there",
        lambda row, new: "seal " not in row["summary"],
    ),
    ("runs", "batch"): ("a run that was killed leaves it empty", lambda row, new: new == "NULL"),
    ("intents", "gateway_ref"): (
        "no money moved through it; an id that the gateway does not know makes `collect` say so",
        lambda row, new: row["state"] != "succeeded",
    ),
    ("intents", "state"): (
        "to be cancelled: it is never confirmed again, and the next `collect` reads it back",
        lambda row, new: (row["state"], new) == ("created", "'cancelling'"),
    ),
    ("payments", "reason"): (GATEWAYS_WORD, lambda row, new: row["status"] in WAITING),
    ("payments", "retryable"): (GATEWAYS_WORD, lambda row, new: row["status"] == "declined"),
    ("payments", "charge"): (GATEWAYS_WORD, lambda row, new: row["status"] != "no_card"),
    ("payments", "status"): (
        "nothing was paid, and the next `collect` reads the intent back",
        lambda row, new: row["status"] in WAITING and new.strip("'") in WAITING,
    ),
}
"""What need not be found, why, and where."""


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Home:
    return everything_once(tmp_path_factory, worker_id)


@pytest.fixture
def copied(everything: Home, tmp_path: Path) -> Engine:
    """A copy of it to spoil, whose ledger is one plain file without triggers."""
    path = tmp_path / "copy"
    shutil.copytree(everything.path, path)
    with closing(sqlite3.connect(path / "ledger.db")) as con:
        con.execute("PRAGMA journal_mode = DELETE")
        for (name,) in con.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            con.execute(f"DROP TRIGGER {name}")
        con.commit()
    return Engine(path, Clock(parse_instant(everything.now)))


def found(engine: Engine, likely: Collection[str] = ()) -> str | None:
    """The check of verify's that finds something, if one does; likely ones are asked before all."""
    asked = (verify(engine, likely) if likely else (), verify(engine))
    return next((name for checks in asked for name, problems in checks if problems), None)


def test_nothing_is_found_where_nothing_was_changed(copied: Engine) -> None:
    assert found(copied) is None
    names = [name for name, _ in verify(copied)]
    assert {name: found for name in names for _, found in verify(copied, {name}) if found} == {}, "asked by itself"
    with closing(sqlite3.connect(copied.book.path)) as con:
        empty = [name for name in LEDGER if not con.execute(f"SELECT count(*) FROM {name}").fetchone()[0]]
    assert empty == UNTOUCHED, "the story must put something into every other table"


# The ledger


@dataclass(frozen=True)
class Change:
    """One value of one row changed."""

    table: str
    column: str
    row: dict[str, Any]
    new: str

    @property
    def sentence(self) -> str:
        return f'UPDATE {self.table} SET "{self.column}" = {self.new} WHERE rowid = {self.row["rowid"]}'

    @property
    def is_excused(self) -> bool:
        _, excuse = NOT_EVIDENCE.get((self.table, self.column), ("", lambda row, new: False))
        return excuse(self.row, self.new)


@pytest.mark.parametrize("name", LEDGER)
def test_every_column_of_the_ledger_is_proven(copied: Engine, name: str) -> None:
    """Each value of the first and the last row, and each that may ever change in rows of every kind."""
    path = copied.book.path
    whole = path.read_bytes()
    unseen = []
    # What found one change of a column is likely to find the next, and much quicker than all checks.
    by: dict[str, set[str]] = defaultdict(lambda: {"seals"})
    for change in changes(path, name):
        with closing(sqlite3.connect(path)) as con:
            try:
                con.execute(change.sentence)
            except sqlite3.IntegrityError:
                continue  # the database itself refuses it
            con.commit()
        if not change.is_excused:
            seen = found(copied, by[change.column])
            if seen is None:
                unseen.append((change.sentence, change.row))
            else:
                by[change.column].add(seen)
        path.write_bytes(whole)
    assert unseen == []


def changes(path: Path, name: str) -> Iterator[Change]:
    """Every change to be tried in a table."""
    with closing(sqlite3.connect(path)) as con:
        con.row_factory = sqlite3.Row
        rows = [dict(row) for row in con.execute(f"SELECT rowid AS rowid, * FROM {name} ORDER BY 1")]
    ends = [*rows[:1], *rows[1:][-1:]]
    kinds = list({kind_of(row): row for row in rows}.values())
    for column in metadata().tables[name].c:
        for row in kinds if column.name in tables()[name].mutable else ends:
            for other in others(name, column.name, row[column.name], nullable=bool(column.nullable)):
                yield Change(name, column.name, row, other)


def kind_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """Which kind of row it is, in tables with columns that may change."""
    return *(row.get(column) for column in KINDS), "seal " in str(row.get("summary"))


def others(table: str, column: str, value: Any, *, nullable: bool) -> list[str]:
    """Other values of the same type, as SQL."""
    if value is None:
        return ["'x'"] if column in TEXTS else ["7"]
    empty = ["NULL"] if nullable else []
    if isinstance(value, int):
        return [str(1 - value if column in FLAGS else value + 1), *empty]
    if (table, column) in WORDS:
        return [f"'{word}'" for word in WORDS[table, column] if word != value] + empty
    other = {"USD": "EUR", "EUR": "USD"}.get(value)
    return [f"'{other or value + '1'}'", *empty]


KINDS = ("kind", "outcome", "status", "state", "exit_code")
FLAGS = {column.name for table in tables().values() for column in table.columns if column.kind == "flag"}
TEXTS = {
    column.name for table in tables().values() for column in table.columns if column.kind in ("text", "day", "month")
}
WORDS = {
    ("invoice_status", "status"): ("paid", "open", "carried", "void", "uncollectible"),
    ("intents", "state"): ("creating", "created", "succeeded", "cancelling", "cancelled"),
    ("payments", "status"): ("unknown", "succeeded", "declined", "action_required", "no_card"),
}


def test_what_is_excused_is_really_unseen(copied: Engine) -> None:
    """No excuse outlives its reason: each is for a change that verify does not find."""
    path = copied.book.path
    whole = path.read_bytes()
    needed = set()
    for table, column in NOT_EVIDENCE:
        for change in changes(path, table):
            if (change.column, change.is_excused) == (column, True) and (table, column) not in needed:
                with closing(sqlite3.connect(path)) as con, suppress(sqlite3.IntegrityError):
                    con.execute(change.sentence)
                    con.commit()
                if path.read_bytes() != whole and found(copied) is None:
                    needed.add((table, column))
                path.write_bytes(whole)
    assert needed == NOT_EVIDENCE.keys()


@pytest.mark.parametrize("name", [name for name in LEDGER if name not in UNTOUCHED])
def test_no_row_of_the_ledger_can_go(copied: Engine, name: str) -> None:
    """The last row deleted, or added once more."""
    path = copied.book.path
    whole = path.read_bytes()
    for sentence in (
        f"DELETE FROM {name} WHERE rowid = (SELECT max(rowid) FROM {name})",
        f"DELETE FROM {name} WHERE rowid = (SELECT min(rowid) FROM {name})",
    ):
        with closing(sqlite3.connect(path)) as con:
            con.execute(sentence)
            con.commit()
        assert found(copied), sentence
        path.write_bytes(whole)


def test_a_whole_seal_cannot_go(copied: Engine) -> None:
    with closing(sqlite3.connect(copied.book.path)) as con:
        con.execute("DELETE FROM seals WHERE seal = (SELECT max(seal) FROM seals)")
        con.commit()
    assert found(copied)


# The lake


def test_every_file_of_the_lake_is_proven(copied: Engine) -> None:
    """A byte flipped, in each file elsewhere, or the file gone; a flip that leaves every row as it was is no damage."""
    files = sorted(path for path in copied.lake.root.rglob("*.*") if "state" not in path.parts and path.is_file())
    files = [path for path in files if not path.name.startswith(".")]
    files.remove(copied.lake.root / "manifest.json")
    assert {path.parent.name for path in files} >= {"events", "raw", "quarantine", "2026-05", "ledger"}
    # The ledger may be ahead of its copy, by what posts nothing: the next run tells of it again.
    last_copy = max(path for path in files if path.parent.name == "ledger")
    for number, path in enumerate(files):
        whole = path.read_bytes()
        rows = pq.read_table(path) if path.suffix == ".parquet" else None
        place = (0, len(whole) // 4, len(whole) // 2, len(whole) - 9)[number % 4]
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert found(copied) or same(path, rows), (path, place)
        path.unlink()
        assert found(copied) or path == last_copy, path
        path.write_bytes(whole)
    assert found(copied) is None


def same(path: Path, rows: pa.Table | None) -> bool:
    """Whether a file still has these rows."""
    try:
        return rows is not None and bool(pq.read_table(path).equals(rows))
    except (OSError, pa.ArrowException):
        return False


def test_the_index_of_identities_is_proven(copied: Engine) -> None:
    """A byte flipped in any of its files is found; one that is gone is none, for the next run makes it again."""
    files = sorted((copied.lake.root / "state" / "identities").iterdir())
    assert files
    for path in files:
        whole = path.read_bytes()
        for place in (0, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            assert found(copied), (path, place)
        path.unlink()
        assert found(copied) is None
        path.write_bytes(whole)


def test_the_manifest_is_proven(copied: Engine) -> None:
    """Each value changed, each batch taken away; only the number of repeats that a batch dropped is a mere count."""
    path = copied.lake.root / "manifest.json"
    whole = path.read_bytes()
    for place, other in leaves(json.loads(whole)):
        path.write_bytes(json.dumps(other).encode())
        assert found(copied) or place[-1] == "duplicates", place
    batches = json.loads(whole)["batches"]
    assert len(batches) == 3
    for gone in range(len(batches)):
        path.write_bytes(json.dumps({"version": 1, "batches": batches[:gone] + batches[gone + 1 :]}).encode())
        assert found(copied), gone
    for damaged in (b"", whole[:-20], b"[]"):
        path.write_bytes(damaged)
        assert found(copied), damaged
    path.unlink()
    assert found(copied)


def leaves(document: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The document with each of its values changed, one at a time."""
    members = document.items() if isinstance(document, dict) else enumerate(document)
    for name, value in members:
        if isinstance(value, (dict, list)):
            changed = list(leaves(value, (*place, name)))
        elif value is None:
            changed = []
        else:
            changed = [((*place, name), value + 1 if isinstance(value, int) else value + "0")]
        for where, other in changed:
            copy = document.copy()
            copy[name] = other
            yield where, copy


# The sandbox


BOOKED = ("captures_booked",)
"""The check that finds what was done to a capture, asked before all others."""


def test_every_capture_is_proven(copied: Engine) -> None:
    """Values of two lines, a line doubled or taken away, the file gone; only the time is told nowhere else."""
    path = copied.path / "sandbox" / "captures.jsonl"
    lines = path.read_text().splitlines()
    assert len(lines) == 5
    for number, line in enumerate(lines):
        for place, other in leaves(json.loads(line)) if number in (0, len(lines) - 1) else ():
            if place == ("amount",):
                other["amount"] = other["amount"][:-2] + "1"
            if place == ("currency",):
                other["currency"] = "GBP"
            changed = [*lines[:number], json.dumps(other), *lines[number + 1 :]]
            path.write_text("\n".join([*changed, ""]))
            assert found(copied, BOOKED) or place == ("captured_at",), other
        path.write_text("\n".join([*lines[:number], *lines[number + 1 :], ""]))
        assert found(copied, BOOKED), number
        path.write_text("\n".join([*lines, line, ""]))
        assert found(copied, BOOKED), number
    path.unlink()
    assert found(copied)
