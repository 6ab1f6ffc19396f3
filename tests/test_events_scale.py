"""Many files, many bad lines, huge lines, long histories: clear results, and memory that does not grow with them."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_events_ingest import NOW, identities, put, raws, ready, rows, state, take, text

from metering.events import identities as identities_module
from metering.events import ingest as ingest_module
from metering.events import lines as lines_module
from metering.events import merging
from metering.events import reading as reading_module
from metering.events import sources as sources_module
from metering.events.identities import FOLDER, Identities
from metering.events.keys import identity_keys
from metering.events.merging import placed
from metering.events.seen import Seen
from metering.lake import Lake, entries


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake."""
    return Lake(tmp_path / "lake")


def test_a_drop_of_small_files_is_gathered(lake: Lake, tmp_path: Path) -> None:
    """A thousand files make one table; each bad line still has its file and number; a broken file is named."""
    folder = tmp_path / "in"
    for number in range(1000):
        put(folder, f"{number:04}.jsonl", ready(f"e-{number}"), *(["", f"nope {number}"] if number % 250 == 7 else []))
    (folder / "0500x.jsonl.gz").write_bytes(b"no gzip")
    (folder / "0501.jsonl").write_bytes(text(ready("e-501"))[:-1])
    result = take(lake, folder)
    assert (result.accepted, result.quarantined, result.files, result.batch) == (1000, 4, 1000, 1)
    assert len(result.unreadable) == 1 and "0500x.jsonl.gz" in result.unreadable[0]
    assert rows(lake, "SELECT file, line FROM quarantine ORDER BY file") == [
        (f"{number:04}.jsonl", 3) for number in (7, 257, 507, 757)
    ]
    assert pq.read_metadata(lake.root / "events/00000001.parquet").num_row_groups == 1
    assert len(identities(lake)) == 1000


@pytest.mark.parametrize("days", [28, 2, 1], ids=lambda days: f"{days} instants")
def test_threads_and_chunks_do_not_change_a_result(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """In one piece or in hundreds, on one core or two: the same lake, and the first line wins.

    What happened at one instant, such as all of a night's backups, is cut by its subjects.
    """
    days_of = [f"2026-05-{1 + at % days:02}T00:00:00Z" for at in range(1400)]
    events = [ready(f"e-{at % 700}", size=at // 700, time=days_of[at]) for at in range(1400)]
    path = put(tmp_path, "a.jsonl", *events[:700], "nope", *events[700:], "", "nope")
    whole = take(lake, path)
    monkeypatch.setattr(sources_module, "CHUNK_BYTES", 3000)
    monkeypatch.setattr(sources_module, "SMALL_BYTES", 0)
    monkeypatch.setattr(reading_module, "INLINE_BYTES", 0)
    monkeypatch.setattr(ingest_module, "HELD_BYTES", 50_000)
    monkeypatch.setattr(ingest_module, "FEW_BYTES", 0)
    monkeypatch.setattr(merging, "ROWS", 100)
    monkeypatch.setattr(merging, "_EVERY", 10)
    monkeypatch.setattr(merging, "TOGETHER", 3)
    monkeypatch.setattr(entries, "ROOM", 100)
    monkeypatch.setattr(entries, "AT_ONCE", 512)
    sizes: list[int] = []
    monkeypatch.setattr(merging, "placed", lambda table: sizes.append(table.num_rows) or placed(table))
    other = Lake(tmp_path / "other")
    cut = take(other, path)
    assert (whole.accepted, whole.conflicts, whole.reasons) == (cut.accepted, cut.conflicts, cut.reasons)
    assert (whole.accepted, whole.conflicts) == (700, 700)
    assert state(lake)[1:] == state(other)[1:]
    assert raws(lake) == raws(other)
    # Which raw line is an event's may differ: one that merely looked like a repeat comes last.
    stored = [pq.read_table(each.root / "events/00000001.parquet").drop_columns("seq") for each in (lake, other)]
    assert stored[0].equals(stored[1])
    index = [runs[0] for runs in (Identities(each).open() for each in (lake, other))]
    assert np.array_equal(index[0].between(None, None)["key"], index[1].between(None, None)["key"])
    assert len(sizes) > 4 and max(sizes) < 300, "no more is sorted at once"


def test_a_line_that_is_too_long_is_kept_and_named(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not looked into, its bytes are kept, its neighbours are taken; a line without end is no event file."""
    monkeypatch.setattr(lines_module, "MAX_LINE", 10_000)
    monkeypatch.setattr(sources_module, "CHUNK_BYTES", 4096)
    monkeypatch.setattr(sources_module, "SMALL_BYTES", 0)
    long = json.dumps(ready("long", extra="x" * 50_000))
    result = take(lake, put(tmp_path, "a.jsonl", ready("e-1"), long, ready("e-2")))
    assert (result.accepted, result.reasons) == (2, {"too_long": 1})
    assert rows(lake, "SELECT line, raw FROM quarantine") == [(2, long.encode())]
    monkeypatch.setattr(sources_module, "MAX_LINE_BYTES", 20_000)
    again = take(lake, put(tmp_path, "b.jsonl", ready("e-3"), long))
    assert again.batch is None and "b.jsonl: a line is longer than 20000 bytes" in again.unreadable[0]
    assert identities(lake) == {("/s", "e-1"), ("/s", "e-2")}


# The index of identities


def runs(lake: Lake) -> list[str]:
    """The runs of the index; beside each lies what proves its blocks."""
    return sorted(path.name for path in (lake.root / FOLDER).glob("*.run"))


def test_many_batches_stay_few_runs(lake: Lake, tmp_path: Path) -> None:
    """Runs are merged by size, so that there are about log4 of the batches of them."""
    for number in range(9):
        take(lake, put(tmp_path, "a.jsonl", ready(f"e-{number}")))
    assert len(runs(lake)) <= 3
    assert list(Identities(lake).problems()) == []
    assert take(lake, put(tmp_path, "b.jsonl", *(ready(f"e-{number}") for number in range(10)))).duplicates == 9


@pytest.mark.parametrize("damage", ["gone", "short", "behind", "ahead", "strange", "key", "batch", "blocks"])
def test_an_index_that_is_not_sound_is_made_again(lake: Lake, tmp_path: Path, damage: str) -> None:
    """Lost, cut, stale, changed, or of a lake that was set back: repeats are found all the same."""
    take(lake, put(tmp_path, "a.jsonl", ready("e-1")))
    shutil.copytree(lake.root, tmp_path / "then")
    take(lake, put(tmp_path, "b.jsonl", ready("e-2")))
    folder = lake.root / FOLDER
    if damage == "gone":
        shutil.rmtree(folder)
    elif damage == "short":
        for path in folder.iterdir():
            path.write_bytes(path.read_bytes()[:-1])
    elif damage == "behind":
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "then" / FOLDER, folder)
    elif damage in ("key", "batch", "blocks"):
        for path in folder.glob("*.blocks" if damage == "blocks" else "*.run"):
            data = bytearray(path.read_bytes())
            # The keys of a block come first, then its batches; what two events do not fill is at the end of each.
            data[4096 if damage == "batch" else 0] ^= 0xFF
            path.write_bytes(data)
        assert len(list(Identities(lake).problems())) == 1
        assert Identities(lake).batches_of(identity_keys(pa.array(["/s"]), pa.array(["e-2"])), 2) == {1, 2}
    elif damage == "ahead":
        shutil.copy(tmp_path / "then" / "manifest.json", lake.root)
    else:
        (folder / "v3-00000001-00000009-0-0123456789abcdef-0123456789abcdef.run").write_bytes(b"")
        (folder / "notes.txt").write_text("x")
    result = take(lake, put(tmp_path, "c.jsonl", ready("e-1"), ready("e-2"), ready("e-3")))
    assert (result.accepted, result.duplicates) == ((2, 1) if damage == "ahead" else (1, 2))
    assert list(Identities(lake).problems()) == []
    assert len(identities(lake)) == 3


def test_equal_keys_of_different_identities_harm_nobody(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all keys are the same, identities are still told apart by their texts."""
    for module in (identities_module, reading_module):
        monkeypatch.setattr(module, "identity_keys", lambda sources, ids: np.full(len(ids), 7, np.uint64))
    take(lake, put(tmp_path, "a.jsonl", ready("e-1"), ready("e-2"), ready("e-1")))
    result = take(lake, put(tmp_path, "b.jsonl", ready("e-2"), ready("e-3"), ready("e-1", size=9), ready("e-4")))
    assert (result.accepted, result.duplicates, result.conflicts) == (2, 1, 1)
    assert {identity for _, identity in identities(lake)} == {"e-1", "e-2", "e-3", "e-4"}
    assert len(raws(lake)) == 4


def test_only_batches_that_may_hold_a_repeat_are_read(lake: Lake, tmp_path: Path) -> None:
    """A night does not read the history: the index says where an identity is."""
    for number in range(3):
        take(lake, put(tmp_path, "a.jsonl", ready(f"e-{number}")))
    names = [f"e-{number}" for number in (7, 1, 9, 1)]
    seen = Seen(lake, 1000)
    met = seen.meet(identity_keys(pa.array(["/s"] * len(names)), pa.array(names)), np.arange(len(names)))
    assert (met.tolist(), seen.batches) == ([False, True, False, True], {2})


def test_memory_does_not_grow_with_bad_lines(lake: Lake, tmp_path: Path) -> None:
    """Faults are held on disk, not in the interpreter."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(b'{"specversion":"1.0","id":"%d"}\n' % at for at in range(3_000)) * 3)
    tracemalloc.start()
    result = take(lake, path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.reasons == {"missing_field": 9_000}
    assert peak < 30_000_000
    assert take(lake, path, now=NOW + 1).batch is None


# What explodes


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_an_archive_that_explodes_is_refused(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Blank lines, hundreds to a byte: refused, named, and its neighbours are taken; a file with many is none."""
    monkeypatch.setattr(sources_module, "FREE_BYTES", 2**22)
    folder = tmp_path / "in"
    put(folder, "a.jsonl", ready("e-1"))
    put(folder, "c.jsonl", ready("e-2"))
    good = text(*(ready(f"e-{number}") for number in range(1000))) + b"\n" * 2**20
    for name, content in (("b.jsonl", b"\n" * 2**26), ("d.jsonl", good)):
        with pa.CompressedOutputStream(str(folder / f"{name}{suffix}"), "gzip" if suffix == ".gz" else "zstd") as file:
            for at in range(0, len(content), 2**24):
                file.write(content[at : at + 2**24])
    packed = (folder / f"b.jsonl{suffix}").stat().st_size
    assert packed < 2**19
    result = take(lake, folder)
    (named,) = result.unreadable
    assert f"b.jsonl{suffix}: more than" in named and f"come of {packed}: no file of events packs so well" in named
    assert (result.accepted, result.files) == (1000, 3)


def test_a_small_packed_file_may_hold_much(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read in pieces once it shows: the files before it come first, and line numbers are its own."""
    put(tmp_path / "in", "a.jsonl", ready("e-1"))
    lines = [ready(f"e-{number}", extra="x" * 20_000) for number in range(300)]
    with pa.CompressedOutputStream(str(tmp_path / "in" / "b.jsonl.zst"), "zstd") as file:
        file.write(text(*lines, "nope"))
    assert (tmp_path / "in" / "b.jsonl.zst").stat().st_size < sources_module.SMALL_BYTES
    monkeypatch.setattr(sources_module, "CHUNK_BYTES", 2**21)
    assert len(text(*lines)) > 2 * sources_module.CHUNK_BYTES
    put(tmp_path / "in", "c.jsonl", "nope again")
    result = take(lake, tmp_path / "in")
    assert (result.accepted, result.duplicates, result.files) == (300, 1, 3)
    assert rows(lake, "SELECT file, line FROM quarantine ORDER BY 1") == [("b.jsonl.zst", 301), ("c.jsonl", 1)]


def test_many_bad_lines_are_named_up_to_twenty(lake: Lake, tmp_path: Path) -> None:
    """By file and line, in order, with the reason; the others are counted."""
    result = take(lake, put(tmp_path, "a.jsonl", *("nope" for _ in range(25)), ready("e-1")))
    said = list(result.left())
    assert result.quarantined == 25 and len(said) == 21
    assert said[0].startswith("quarantined: a.jsonl, line 1: malformed_json: ")
    assert said[19].startswith("quarantined: a.jsonl, line 20: ")
    assert said[20] == "quarantined: 5 more lines: see `metering quarantine`"
