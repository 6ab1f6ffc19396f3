"""What the maintained state answers is what all events answer: the same books, however it was damaged or lost."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from homes import Home
from test_state_properties import take
from usage_given import instant, parse_events, relation

from metering.close import drafting
from metering.lake import Lake, connect
from metering.lake.entries import ExternalSort, merged
from metering.state import advance, open_usage, policy, write
from metering.state.index import KINDS, Index, filter_for, write_entries
from metering.values import Month, to_instant

FIRST, MONTHS = Month(2026, 1), 5
ACCOUNTS = ("acc-1", "acc-2", "acc-3", "acc-late")


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small a lake is, it has a state."""
    monkeypatch.setenv("METERING_STATE_FROM", "0")


@cache
def history(seed: int) -> dict[Month, list[str]]:
    """Events as short lines, by the month in which they arrive: some at once, some up to three months late."""
    draw = random.Random(seed)
    arriving: dict[Month, list[str]] = {FIRST.plus(n): [] for n in range(MONTHS)}
    names: list[str] = []

    def happens(month: int, day: int, what: str, *, on_time: bool = False) -> None:
        if month < MONTHS:
            late = 0 if on_time else draw.choice((0, 0, 0, 1, 2, 3))
            names.append(f"e{len(names)}")
            line = f"{FIRST.plus(month)}-{day:02}T{draw.randrange(24):02} {what} id={names[-1]}"
            arriving[FIRST.plus(min(month + late, MONTHS - 1))].append(line)

    for month in range(MONTHS):
        for number in range(9):
            name, vm = f"s{month}-{number}", f"vm-{month}-{number % 3}"
            account, region = draw.choice(ACCOUNTS), draw.choice(("eu", "eu", "us"))
            kind = draw.choice(("vm", "vm", "volume"))
            size = draw.randrange(1, 5000)
            happens(
                month, draw.randrange(1, 20), f"ready {name} acc={account} reg={region} type={kind} res={vm} gb={size}"
            )
            if draw.random() < 0.3:
                happens(month, draw.randrange(20, 28), f"resized {name} gb={draw.randrange(1, 5000)}")
            if draw.random() < 0.6:
                happens(month + draw.choice((0, 0, 1, 2)), draw.randrange(20, 28), f"deleted {name}")
        happens(month + draw.choice((0, 1)), draw.randrange(20, 28), f"vm-deleted vm-{month}-{month % 3}")
        for gone in draw.sample(names[:-1], 2):
            happens(month, 28, f"retracted free retracted_source=/compute retracted_id={gone}", on_time=True)
    return arriving


def decide(home: Home, month: Month) -> None:
    """What people do before a month is closed, so that all is rated again for reasons of every kind."""
    if month == FIRST.plus(2):
        home.prices(*PRICES, "snapshot.volume,us,USD,0.0003,2026-01-01,")
    if month == FIRST.plus(3):
        home.accounts("acc-late,USD,7,pm_card_visa")
        home.run(
            "void", home.report("invoices", "--month", str(FIRST.plus(1)))[0]["invoice"], "--rebill", exit_code=None
        )


PRICES = ("snapshot.vm,,USD,0.0001,2026-01-01,", "snapshot.volume,eu,USD,0.0002,2026-01-01,")


def live(home: Home, disturb: Callable[[Home, Month], None] = lambda home, month: None) -> list[str]:
    """Every month: what comes until its middle, a night after its end, and the close; what the closes said."""
    home.prices(*PRICES)
    home.accounts("acc-1,USD,19,pm_card_visa", "acc-2,USD,0,pm_card_chargeDeclined", "acc-3,USD,7,pm_card_visa")
    said = []
    for month, lines in history(1).items():
        middle = f"{month}-16T06"
        early = [line for line in lines if line[:13] <= middle]
        home.events("\n".join(early), f"{month}-a.jsonl")
        home.run("ingest", now=f"{middle}:00:00Z", exit_code=None)
        home.events("\n".join(line for line in lines if line not in early), f"{month}-b.jsonl")
        following = str(month.plus(1))
        home.run("nightly", now=f"{following}-01T06:00:00Z", exit_code=None)
        home.now = f"{following}-01T08:00:00Z"
        decide(home, month)
        disturb(home, month)
        said.append(home.run("close", exit_code=None).stdout)
        assert home.last.exit_code in (0, 3), home.last
    return said


def answers(home: Home) -> dict[str, Any]:
    """Everything that was billed, booked and charged, the bytes of every document, and what reports tell."""
    documents = {
        str(path.relative_to(home.path)): sha256(path.read_bytes()).hexdigest()
        for path in sorted((home.path / "lake").rglob("*.parquet"))
        if path.relative_to(home.path).parts[:2] != ("lake", "state")
    }
    reports = {name: home.report(name) for name in ("usage", "anomalies", "forecast", "idle")}
    by = {by: home.report("usage", "--by", by) for by in ("project", "snapshot", "day")}
    return {**home.state(), "documents": documents, **reports, **by}


@cache
def without_state() -> tuple[list[str], dict[str, Any]]:
    """The same history in a home that reads all events, always."""
    home = Home(Path(mkdtemp()) / "home")
    said = live(home)
    assert not (home.path / "lake" / "state" / "state.json").exists()
    return said, answers(home)


def test_a_history_closes_to_the_same_books_with_and_without(
    tmp_path: Path, kept: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("METERING_STATE_FROM")
    plain = without_state()
    monkeypatch.setenv("METERING_STATE_FROM", "0")
    rated = spied(monkeypatch)
    home = Home(tmp_path / "home")
    assert live(home) == plain[0]
    assert rated, "no close used the state"
    found = answers(home)
    for name, value in plain[1].items():
        assert found[name] == value, name
    home.run("verify")


def test_a_close_rates_again_only_what_changed(tmp_path: Path, kept: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many months are closed: what is rated is the closing month, and what late events changed."""
    rated: list[list[tuple[str, str]]] = []
    lines = drafting._lines

    def spy(inputs: Any, prices: Any, usage: Any, *rest: Any) -> Any:
        rated.append(sorted((usage.places[row[1]].month, name) for name, rows in usage.accounts() for row in rows))
        return lines(inputs, prices, usage, *rest)

    monkeypatch.setattr(drafting, "_lines", spy)
    home = Home(tmp_path / "home")
    home.prices(*PRICES)
    home.accounts("acc-1,USD,19,", "acc-2,USD,0,")
    home.events("2026-01-01 ready one acc=acc-1\n2026-01-01 ready two acc=acc-2\n", "start.jsonl")

    def close(month: str) -> list[tuple[str, str]]:
        home.now = f"{Month.parse(month).plus(1)}-01T08:00:00Z"
        home.run("close", month, exit_code=None)
        return rated[-1]

    for month in ("2026-01", "2026-02", "2026-03", "2026-04"):
        assert close(month) == [(month, "acc-1"), (month, "acc-2")]
    home.events("2026-03-02 deleted two\n", "late.jsonl")
    # Of April nothing of the second account is left: what is rated for it is nothing, and its line is taken back.
    assert close("2026-05") == [("2026-03", "acc-2"), ("2026-05", "acc-1")]
    made = home.report("invoice-lines", "--month", "2026-05", "--account", "acc-2")
    assert [(line["kind"], line["month"]) for line in made] == [("adjustment", "2026-03"), ("adjustment", "2026-04")]
    assert close("2026-06") == [("2026-06", "acc-1")]


def spied(monkeypatch: pytest.MonkeyPatch) -> list[set[tuple[str, str]]]:
    """The earlier months and accounts that each close with a state rates again."""
    rated: list[set[tuple[str, str]]] = []
    usage = drafting._usage

    def spy(home: Any, inputs: Any, con: Any, earlier: set[tuple[str, str]]) -> Any:
        rated.append(earlier)
        return usage(home, inputs, con, earlier)

    monkeypatch.setattr(drafting, "_usage", spy)
    return rated


def _lose(home: Home, month: Month) -> None:
    if month == FIRST.plus(3):
        shutil.rmtree(home.path / "lake" / "state")


def test_a_retraction_reaches_its_event_without_the_others(home: Home, kept: None) -> None:
    """March takes back the deletion that January brought; the state learns of it while February's events are away.

    1,000 GB cost 0.10 an hour: January billed a1 for 10 of its 22 days; the other 12 and February's 28 come with March.
    """
    home.prices("snapshot.vm,,USD,0.0001,2026-01-01,")
    home.accounts("acc-1,USD,0,pm_card_visa")
    home.events("2026-01-10 ready a1 acc=acc-1 gb=1000\n2026-01-20 deleted a1 id=gone", "1.jsonl")
    home.run("close", "2026-01", now="2026-02-01T08:00:00Z")
    home.events("2026-02-10 ready b1 gb=1000 acc=acc-1\n2026-02-11 deleted b1", "2.jsonl")
    home.run("close", "2026-02", now="2026-03-01T08:00:00Z")
    home.now = "2026-04-01T08:00:00Z"
    home.events("2026-03-05 retracted free retracted_source=/compute retracted_id=gone", "3.jsonl")
    home.run("ingest", str(home.path / "inbox"))
    (february,) = (home.path / "lake" / "events").glob("00000002*")
    february.rename(home.path / "aside")
    found = advance(Lake(home.path / "lake"), to_instant(datetime(2026, 4, 1, 8, tzinfo=UTC)))
    assert found is not None and found.batch == 3
    (home.path / "aside").rename(february)
    home.run("close", "2026-03")
    lines = home.report("invoice-lines", "--month", "2026-03")
    assert sorted((line["month"], line["amount"]) for line in lines) == [
        ("2026-01", "28.80"),
        ("2026-02", "67.20"),
        ("2026-03", "74.40"),
    ]
    home.run("verify")


def test_a_vm_that_was_wrong_is_put_right(home: Home, kept: None) -> None:
    """February takes back a ready event that named a VM deleted in January, and sends it again with the right VM.

    1,000 GB cost 0.10 an hour: January billed s for 14 days; its other 10 come with February's 28.
    """
    home.prices("snapshot.vm,,USD,0.0001,2026-01-01,")
    home.accounts("acc-1,USD,0,pm_card_visa")
    home.events("2026-01-08 ready s gb=1000 res=wrong id=mistaken\n2026-01-22 vm-deleted wrong", "1.jsonl")
    home.run("close", "2026-01", now="2026-02-01T08:00:00Z")
    retracted = "2026-02-08 retracted free retracted_source=/compute retracted_id=mistaken"
    home.events(f"{retracted}\n2026-01-08 ready s gb=1000 res=right id=mended", "2.jsonl")
    home.run("close", "2026-02", now="2026-03-01T08:00:00Z")
    lines = home.report("invoice-lines")
    assert [(line["invoice"][4:11], line["month"], line["amount"]) for line in lines] == [
        ("2026-01", "2026-01", "33.60"),
        ("2026-02", "2026-02", "67.20"),
        ("2026-02", "2026-01", "24.00"),
    ]
    home.run("explain", "INV-2026-02-000001", now="2026-03-01T08:00:00Z")


def test_a_vm_and_a_snapshot_of_one_id_in_a_batch_taken_in_by_parts(
    home: Home, kept: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first part brings the VM's deletion; what is recalled for it is not taken for more of the snapshot."""
    monkeypatch.setattr(policy, "AT_ONCE", 2)
    home.events("2026-01-08 ready a\n2026-01-09 ready b\n2026-01-20 deleted 42\n2026-01-22 vm-deleted 42")
    home.run("nightly", now="2026-02-01T08:00:00Z", exit_code=None)
    found = home.report("anomalies")
    assert [row["snapshot_id"] for row in found if row["kind"] == "end_without_ready"] == ["42"]
    home.run("verify")


def test_all_that_is_new_of_a_snapshot_is_taken_in_at_once(
    home: Home, kept: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a state from scratch nothing is looked for again in the batches, however many brought it; nothing is left."""
    for day in range(8, 12):
        lines = [f"2026-01-{day:02}T{hour:02} {what}" for hour, what in enumerate(_LIVES[day - 8])]
        home.events("\n".join(lines), f"{day}.jsonl")
        home.run("nightly", now=f"2026-01-{day + 1:02}T01:00:00Z", exit_code=None)
    root = home.path / "lake" / "state"
    (root / "state.json").unlink()
    (root / "divided-0").mkdir()
    (root / "divided-0" / "0.arrow").write_bytes(b"of a run that was killed")
    looked_for = []
    attach = Lake.attach_batches
    monkeypatch.setattr(
        Lake,
        "attach_batches",
        lambda self, con, name, found: looked_for.extend(found) or attach(self, con, name, found),
    )
    monkeypatch.setattr(policy, "AT_ONCE", 2)
    advance(Lake(home.path / "lake"), to_instant(datetime(2026, 2, 1, tzinfo=UTC)))
    assert looked_for == []
    assert not (root / "divided-0").exists()
    home.run("verify")


def test_the_largest_file_is_read_first(home: Home, kept: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one in front makes the engine guess no rows for all, and take the whole merge into memory."""
    read: list[list[int]] = []
    give = write.give_files

    def noted(con: Any, name: str, paths: list[Path], *more: Any) -> None:
        read.append([pq.read_metadata(path).num_rows for path in paths])
        give(con, name, paths, *more)

    monkeypatch.setattr(write, "give_files", noted)
    monkeypatch.setattr(policy, "AT_ONCE", 2)
    monkeypatch.setattr(policy, "FAN", 2)
    home.events(
        "2026-01-08 vm-deleted vm-0\n2026-01-08 ready a\n2026-01-09 ready b\n2026-01-10 deleted a\n2026-01-11 deleted b"
    )
    home.run("nightly", now="2026-02-01T08:00:00Z", exit_code=None)
    assert any(rows[0] > rows[-1] == 0 for rows in read)
    assert all(rows == sorted(rows, reverse=True) for rows in read)


_LIVES = (
    ["ready a res=vm-1", "ready b res=vm-2", "ready c type=volume"],
    ["resized a gb=7", "resized b gb=8", "vm-deleted vm-1"],
    ["resized b gb=9", "deleted c", "ready d res=vm-1"],
    ["resized b gb=10", "resized c gb=3", "retracted no retracted_source=/compute retracted_id=none"],
)


@pytest.mark.soak
def test_a_state_that_is_lost_loses_nothing(tmp_path: Path, kept: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METERING_STATE_FROM")
    plain = without_state()
    monkeypatch.setenv("METERING_STATE_FROM", "0")
    home = Home(tmp_path / "home")
    assert live(home, _lose) == plain[0]
    found = answers(home)
    for name, value in plain[1].items():
        assert found[name] == value, name


# Damage


def torn(state: Path) -> str:
    """The newest state.json, cut off in the middle."""
    path = state / "state.json"
    path.write_bytes(path.read_bytes()[:100])
    return "state.json"


def missing(state: Path) -> str:
    """A folder that is not there."""
    shutil.rmtree(first_folder(state, is_open=False))
    return "is missing"


def altered(state: Path) -> str:
    """A lifespan with another end, in a file that can be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = first_folder(state, is_open=False) / "lifespans.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index("ended_at")
    later = pa.array(
        [value + 3_600_000_000 for value in table.column(place).to_pylist()], table.schema.field(place).type
    )
    pq.write_table(table.set_column(place, table.schema.field(place), later), path)
    return "lifespans.parquet was changed"


def garbled(state: Path) -> str:
    """The events of what can still change, in a file that is no Parquet."""
    (first_folder(state, is_open=True) / "events.parquet").write_bytes(b"no Parquet")
    return "events.parquet was changed"


def misleading(state: Path) -> str:
    """An index that leads nowhere."""
    path = first_folder(state, is_open=False) / "entries.index"
    path.write_bytes(bytes(path.stat().st_size))
    return "entries.index was changed"


def blind(state: Path) -> str:
    """A filter that lets nothing through."""
    path = first_folder(state, is_open=False) / "filter.index"
    path.write_bytes(bytes(path.stat().st_size))
    return "filter.index was changed"


def first_folder(state: Path, *, is_open: bool) -> Path:
    folders = msgspec.json.decode((state / "state.json").read_bytes())["folders"]
    return next(state / folder["name"] for folder in folders if folder["is_open"] == is_open)


@cache
def lived() -> Path:
    """A home with a state of several folders; copied for each test."""
    home = Home(Path(mkdtemp()) / "home")
    home.prices(*PRICES)
    home.accounts("acc-1,USD,19,", "acc-2,USD,0,", "acc-3,USD,7,", "acc-late,USD,0,")
    for month, lines in history(1).items():
        home.events("\n".join(lines), f"{month}.jsonl")
        home.now = f"{month.plus(1)}-01T06:00:00Z"
        home.run("nightly", exit_code=None)
    return home.path


@pytest.fixture
def damaged(tmp_path: Path, kept: None) -> Iterator[Home]:
    shutil.copytree(lived(), tmp_path / "home")
    yield Home(tmp_path / "home", f"{FIRST.plus(MONTHS)}-02T06:00:00Z")


@cache
def said_whole() -> list[dict[str, str]]:
    """The usage of its snapshots while nothing is damaged."""
    return Home(lived(), f"{FIRST.plus(MONTHS)}-02T06:00:00Z").report("usage", "--by", "snapshot")


def redated(state: Path) -> str:
    """A state.json in which a folder's snapshots have ended a day before they had."""
    path = state / "state.json"
    said = msgspec.json.decode(path.read_bytes())
    for folder in said["folders"]:
        folder["ended_until"] = folder["ended_until"] and folder["ended_until"] - 86_400_000_000
    path.write_bytes(msgspec.json.encode(said))
    return "it is not what was written"


@pytest.mark.parametrize("damage", [torn, missing, altered, garbled, misleading, blind, redated])
def test_damage_is_found(damaged: Home, damage: Callable[[Path], str]) -> None:
    assert damage(damaged.path / "lake" / "state") in damaged.run("verify", exit_code=3).stdout


def test_a_removed_state_is_made_again(damaged: Home) -> None:
    state = damaged.path / "lake" / "state"
    damaged.run("verify")
    shutil.rmtree(state)
    assert damaged.report("usage", "--by", "snapshot") == said_whole()
    damaged.run("nightly", exit_code=None)
    assert (state / "state.json").exists()
    damaged.run("verify")


@pytest.mark.parametrize("damage", [torn, missing, garbled, redated])
def test_what_cannot_be_read_is_built_anew_and_told(damaged: Home, damage: Callable[[Path], str]) -> None:
    damage(damaged.path / "lake" / "state")
    assert damaged.report("usage", "--by", "snapshot") == said_whole()
    assert "built anew" in damaged.run("nightly", exit_code=None).stderr
    damaged.run("verify")
    assert damaged.report("usage", "--by", "snapshot") == said_whole()


@pytest.mark.parametrize("damage", [altered, garbled, misleading])
def test_damage_gets_no_new_hash(damaged: Home, damage: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A night proves what it merges and the index that it asks, before it makes a state of them."""
    monkeypatch.setattr(policy, "SMALL", 1)
    damage(damaged.path / "lake" / "state")
    names = (f"s{month}-{number}" for month in range(MONTHS) for number in range(9))
    damaged.events("\n".join(f"2026-05-30 deleted {name}" for name in names))
    assert "built anew" in damaged.run("nightly", exit_code=None).stderr
    damaged.run("verify")


@pytest.mark.parametrize("damage", [altered, garbled, misleading])
def test_a_close_proves_what_it_reads_of_earlier_months(
    tmp_path: Path, kept: None, damage: Callable[[Path], str]
) -> None:
    """March learns that c ended on January 12th; then what the state has of January is damaged.

    1,000 GB cost 0.10 an hour: of c's 720 hours in January 240 remain, and none of February's 672.
    """
    shutil.copytree(before_march(), tmp_path / "home")
    home = Home(tmp_path / "home")
    damage(home.path / "lake" / "state")
    home.run("close", now="2026-04-01T08:00:00Z")
    lines = home.report("invoice-lines", "--month", "2026-03")
    assert sorted((line["month"], line["amount"]) for line in lines) == [
        ("2026-01", "-48.00"),
        ("2026-02", "-67.20"),
        ("2026-03", "72.00"),
    ]


@cache
def before_march() -> Path:
    """A home before March is closed; copied for each test."""
    home = Home(Path(mkdtemp()) / "home")
    home.prices("snapshot.vm,,USD,0.0001,2026-01-01,")
    home.accounts("acc-1,USD,0,pm_card_visa")
    home.events("2026-01-02 ready a gb=1000\n2026-01-03 deleted a\n2026-01-02 ready c gb=1000", "1.jsonl")
    home.run("close", now="2026-02-01T08:00:00Z")
    home.run("close", now="2026-03-01T08:00:00Z")
    home.events("2026-01-12 deleted c\n2026-03-02 ready d gb=1000 acc=acc-1", "2.jsonl")
    home.run("nightly", now="2026-04-01T07:00:00Z")
    return home.path


def test_a_night_that_cannot_read_what_was_told_tells_it_again(home: Home) -> None:
    home.events("2026-05-02 ready a acc=nobody")
    home.run("nightly", exit_code=3)
    home.run("nightly")
    (home.path / "lake" / "state" / "unbillable.json").write_bytes(b"no JSON")
    assert "nobody" in home.run("nightly", exit_code=3).stderr


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 5000])
def test_an_index_finds_what_is_there_and_looks_at_little_else(tmp_path: Path, count: int) -> None:
    draw = random.Random(count)
    known = {draw.randrange(-(2**63), 2**63): draw.randrange(1, 40) for _ in range(count)}
    subjects = np.array(list(known), np.int64)
    entries = {"key": subjects, "subject_high": subjects, "ended_at": subjects, "batch": np.array(list(known.values()))}
    sort = ExternalSort(tmp_path, KINDS)
    sort.add(entries)
    write_entries(tmp_path, merged(sort.sources(), KINDS), count)
    others = np.array([draw.randrange(-(2**63), 2**63) for _ in range(10_000)], np.int64)
    index = Index(tmp_path)
    assert index.subjects(np.sort(np.concatenate([subjects, others]))).tolist() == sorted(known)
    for chosen in (subjects[:3], subjects[-1:]):
        assert index.batches(np.sort(chosen)) == {known[key] for key in chosen.tolist()}
        index.rest()
        assert index.batches(np.sort(chosen)) == {known[key] for key in chosen.tolist()}
    # The filter has 8 to 16 bits a key: about one in twelve is looked for in vain at the most.
    made = filter_for(count)
    made.add(subjects.view(np.uint64))
    assert count < 8 or np.count_nonzero(made.may_hold(others.view(np.uint64))) < 1200


@pytest.mark.parametrize("end", ["2026-05-10 deleted s1 id=e2", ""])
def test_where_a_snapshot_moves_a_vm_of_its_id_is_not_forgotten(tmp_path: Path, kept: None, end: str) -> None:
    """Both had ended, or can still change; the late deletion of its VM moves the snapshot, and the VM with it.

    So a snapshot that is taken in later ends with that VM.
    """
    lake, now = Lake(tmp_path), instant("2026-06-01" if end else "2026-05-04")
    for batch in (f"2026-05-01 ready s1 id=e1 resource_id=vm-1\n{end}", "2026-05-05 vm-deleted s1 id=e3 batch=2"):
        take(lake, parse_events(batch))
    advance(lake, now)
    for batch in ("2026-05-04 vm-deleted vm-1 id=e4 batch=3", "2026-05-03 ready s2 id=e5 batch=4 resource_id=s1"):
        take(lake, parse_events(batch))
        advance(lake, now)
    with connect() as con:
        assert open_usage(con, lake, now, UTC)
        ends = {row["snapshot_id"]: row["ended_at"] for row in relation(con, "lifespans").to_pylist()}
    assert ends == {"s1": instant("2026-05-04"), "s2": instant("2026-05-05")}
