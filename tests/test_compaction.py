"""Merging and sweeping files changes nothing that anybody sees, whenever it dies."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import mkdtemp

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from homes import KILLED, Home

from metering import nightly
from metering.lake import Lake, connect

BATCHES = 6
POINTS = {"compact.before_swap", "compact.after_swap"}
ARCHIVE_POINTS = {"archive.before_swap", "archive.after_swap"}
MERGED = ["events/00000001-00000007.parquet", "quarantine/00000001-00000007.parquet"]


@pytest.fixture(scope="module")
def many() -> Home:
    """Six batches over two closed months, some with bad lines, and a late deletion that corrects May."""
    home = Home(Path(mkdtemp()) / "home")
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    home.accounts("acc-1,USD,10,pm_card_visa", "acc-2,USD,0,pm_card_visa")
    for number in range(1, BATCHES + 1):
        home.events(f"2026-05-{number:02} ready s{number} acc=acc-{1 + number % 2} gb={number}", "a.jsonl")
        if number % 3 == 0:
            home.file("inbox/bad.jsonl", f'{{"bad": {number}}}\n')
        home.run("ingest", exit_code=3 if number % 3 == 0 else 0)
        if number == 4:
            home.run("close", "2026-05")
    home.now = "2026-07-01T08:00:00Z"
    home.events("2026-05-10 deleted s3\n2026-05-11 deleted s4", "late.jsonl")
    home.run("close", "2026-06")
    home.now = "2026-07-02T08:00:00Z"
    return home


@pytest.fixture(scope="module")
def seen_before(many: Home) -> dict[str, str]:
    """What is seen before anything is merged."""
    return seen(many)


@pytest.fixture
def copied(many: Home, tmp_path: Path) -> Home:
    shutil.copytree(many.path, tmp_path / "home")
    return Home(tmp_path / "home", now=many.now)


def seen(home: Home) -> dict[str, str]:
    """Everything that anybody can ask, also as of any batch."""
    wanted = {
        f"as of {batch}": ("usage", "--by", "snapshot", "--as-of", str(batch), "--format", "csv")
        for batch in (1, 4, BATCHES)
    }
    for name in ("usage", "anomalies", "quarantine"):
        wanted[name] = ("report", name, "--format", "csv")
    for invoice in ("INV-2026-05-000001", "INV-2026-06-000002"):
        wanted[invoice] = ("explain", invoice)
    return {name: home.run(*words).stdout for name, words in wanted.items()}


def parquet(home: Home) -> list[str]:
    lake = home.path / "lake"
    return sorted(str(path.relative_to(lake)) for name in ("events", "quarantine") for path in (lake / name).iterdir())


def test_merged_files_say_what_the_small_ones_said(copied: Home, seen_before: dict[str, str]) -> None:
    """Every report, every as-of question and every explanation; then the small ones go, and it stays so."""
    before, files = seen_before, parquet(copied)
    assert copied.run("compact", "--least", "2").stderr.startswith("16 files became 4")
    assert seen(copied) == before
    copied.run("verify")
    assert parquet(copied) == sorted(
        [*files, "events/00000001-00000007.parquet", "quarantine/00000001-00000007.parquet"]
    )
    assert copied.run("compact", "--least", "2").stderr.startswith("nothing to merge")
    age(copied, hours=25)
    assert copied.run("gc").stderr.startswith("15 files or folders removed")
    assert parquet(copied) == MERGED
    assert seen(copied) == before
    copied.run("verify")


def test_what_comes_after_a_merge(copied: Home) -> None:
    """A repeat is known, a new batch follows, the next merge takes all in, and a backup restores to the same."""
    copied.run("compact", "--least", "2")
    copied.events("2026-05-01 ready s1 acc=acc-2 gb=1\n2026-06-30 ready new acc=acc-1 gb=7", "again.jsonl")
    assert "1 event, 1 repeat" in copied.run("ingest").stderr
    before = seen(copied)
    copied.run("compact", "--least", "2")
    age(copied, hours=25)
    copied.run("gc")
    assert parquet(copied) == [name.replace("07.", "08.") for name in MERGED]
    assert seen(copied) == before
    copied.run("backup", str(copied.path.with_name("kept")))
    other = Home(copied.path.with_name("other"), now=copied.now)
    shutil.rmtree(other.path)
    other.run("restore", str(copied.path.with_name("kept")))
    assert seen(other) == before


def test_killed(copied: Home, seen_before: dict[str, str]) -> None:
    """Before the swap the small files count, after it the merged ones; again and it is as if nothing had been."""
    before = seen_before
    for point in ("compact.before_swap", "compact.after_swap"):
        assert copied.run_apart("compact", "--least", "2", failpoint=point).exit_code == KILLED
        assert seen(copied) == before, point
    copied.run("compact", "--least", "2")
    age(copied, hours=25)
    copied.run("gc")
    assert len(parquet(copied)) == 2 and seen(copied) == before
    copied.run("verify")


def test_a_damaged_file_is_not_merged(copied: Home) -> None:
    path = copied.path / "lake" / "events" / "00000003.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 0), path)
    before = (copied.path / "lake" / "manifest.json").read_bytes()
    assert "events/00000003.parquet was changed" in copied.run("compact", "--least", "2", exit_code=1).stderr
    assert (copied.path / "lake" / "manifest.json").read_bytes() == before


def test_verify_finds_a_merged_file_with_a_foreign_row(copied: Home) -> None:
    """The batches' own records say how many rows of each must be there, whatever the file's hash says."""
    copied.run("compact", "--least", "2")
    lake = Lake(copied.path / "lake")
    part = lake.manifest().merged[0]
    assert part.events is not None
    table = pq.read_table(lake.root / part.events.path)
    index = table.column("batch").to_pylist().index(5)
    forged = table.set_column(0, "batch", [[1 if i == index else b for i, b in enumerate(table.column(0).to_pylist())]])
    pq.write_table(forged.cast(table.schema), lake.root / part.events.path)
    text = (lake.root / "manifest.json").read_text()
    from metering.lake.store import sha256_of

    (lake.root / "manifest.json").write_text(text.replace(part.events.sha256, sha256_of(lake.root / part.events.path)))
    assert "does not hold the rows of its batches" in copied.run("verify", exit_code=3).stdout


def test_a_newer_manifest_is_refused(copied: Home) -> None:
    path = copied.path / "lake" / "manifest.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 99'))
    assert "version 99; this engine knows" in copied.run("usage", exit_code=2).stderr


def test_what_killed_runs_leave(copied: Home) -> None:
    """Orphans, scratch and temporary files go after the grace time; producers' files and the books never do."""
    lake = copied.path / "lake"
    orphan, part = lake / "events" / "00000008.parquet", lake / "closes" / "2026-05" / ".allocations.parquet.part"
    scratch = lake / ".ingest.part" / "read.parquet"
    scratch.parent.mkdir()
    producer = copied.path / "inbox" / "c.jsonl.part"
    for path in (orphan, part, scratch, producer):
        path.write_bytes(b"x")
    age(copied, hours=25)
    kept = copied.fingerprint().keys()
    os.utime(part, (at(copied) - 3600,) * 2)
    told = copied.run("gc", "--dry-run").stdout.split()
    assert told == ["lake/.ingest.part", "lake/events/00000008.parquet"]
    assert copied.fingerprint().keys() == kept
    copied.run("gc")
    assert kept - copied.fingerprint().keys() == {"lake/.ingest.part/read.parquet", "lake/events/00000008.parquet"}
    copied.run("gc", "--grace", "1")
    assert not part.exists() and producer.exists()
    copied.run("verify")


def test_a_manifest_put_back_is_no_reason_to_remove_events(copied: Home) -> None:
    """Batches that the ledger knows and the manifest does not may be in no other file."""
    path = copied.path / "lake" / "manifest.json"
    kept = path.read_bytes()
    copied.events("2026-06-30 ready new acc=acc-1 gb=7", "new.jsonl")
    copied.run("ingest")
    path.write_bytes(kept)
    age(copied, hours=25)
    assert "put back from a backup" in copied.run("gc", exit_code=3).stderr
    assert (copied.path / "lake" / "events" / "00000008.parquet").exists()


def test_hundreds_of_small_files_merge_into_one(tmp_path: Path) -> None:
    """Row for row what the files held, by arithmetic: batch n holds one event of n bytes."""
    import msgspec

    from metering.lake.compaction import compact
    from metering.lake.store import MANIFEST, Batch, File, Manifest, sha256_of
    from metering.schema import arrow_schema

    lake = Lake(tmp_path)
    (tmp_path / "events").mkdir()
    batches = []
    count = 600
    for number in range(1, count + 1):
        schema = arrow_schema("events")
        row = dict.fromkeys(schema.names) | {"batch": number, "size_bytes": number, "type": "snapshot.ready"}
        row |= dict.fromkeys(("source", "id", "subject", "raw"), "x") | {"time": 0, "ingested_at": 0}
        row |= dict.fromkeys(("subject_high", "subject_low", "event_high", "event_low"), 0) | {"seq": 1}
        path = f"events/{number:08}.parquet"
        pq.write_table(
            pa.Table.from_pylist([{k: v for k, v in row.items() if k in schema.names}], schema), tmp_path / path
        )
        batches.append(Batch(batch=number, ingested_at=0, events=File(path, 1, sha256_of(tmp_path / path))))
    (tmp_path / MANIFEST).write_bytes(msgspec.json.encode(Manifest(batches=batches)))
    assert compact(lake) == (count, 1)
    con: duckdb.DuckDBPyConnection = connect()
    lake.attach(con, 400)
    query = "SELECT count(*), sum(size_bytes), max(batch) FROM events"
    assert con.execute(query).fetchall() == [(400, 400 * 401 // 2, 400)]


def test_a_night_merges_by_itself_within_bounds(
    copied: Home, seen_before: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small neighbours are merged once there are enough, the earliest first and no more than so many a night."""
    for name, value in {"NIGHTLY_PARTS": 4, "NIGHTLY_MOST": 5}.items():
        monkeypatch.setattr(nightly, name, value)
    batches = len(parts(copied))
    assert batches > 5
    said = copied.run("nightly", exit_code=None).stderr
    assert "files became" in said and "lake: " in copied.ledger("runs")[-1]["summary"]
    assert parts(copied)[0] == (1, 5) and len(parts(copied)) == batches - 4
    assert seen(copied) == seen_before
    for _ in range(batches):
        if len(parts(copied)) < 4:
            break
        copied.run("nightly", exit_code=None)
    assert len(parts(copied)) < 4
    copied.run("verify")
    monkeypatch.undo()
    assert "files became" not in copied.run("nightly", exit_code=None).stderr


def parts(home: Home) -> list[tuple[int, int]]:
    """The first and last batch of each file of events."""
    return [(part.first, part.last) for part in Lake(home.path / "lake").manifest().parts()]


def at(home: Home) -> int:
    """The home's clock in seconds."""
    from metering.values import parse_instant

    return parse_instant(home.now) // 10**6


def age(home: Home, hours: int) -> None:
    """Have every file be so old by the home's clock."""
    for path in home.path.rglob("*"):
        if path.exists():
            os.utime(path, (at(home) - hours * 3600,) * 2)


# Raw lines


def raw(home: Home, *folders: Path) -> bytes:
    """Every raw line, as `zstdcat` shows them in the order of names."""
    files = [*(home.path / "lake" / "raw").iterdir(), *(path for folder in folders for path in folder.iterdir())]
    return b"".join(
        pa.input_stream(str(path), compression="zstd").read() for path in sorted(files, key=lambda p: p.name)
    )


def test_raw_lines_are_joined_as_they_are(copied: Home) -> None:
    """One file in place of June's six, the same bytes; July's joins with what came later, and never with June's."""
    before = raw(copied)
    copied.run("compact", "--least", "2")
    age(copied, hours=25)
    copied.run("gc")
    folder = copied.path / "lake" / "raw"
    assert sorted(path.name for path in folder.iterdir()) == ["00000001-00000006.jsonl.zst", "00000007.jsonl.zst"]
    assert raw(copied) == before
    copied.events("2026-06-30 ready new acc=acc-1 gb=7", "new.jsonl")
    copied.run("ingest")
    copied.run("compact", "--least", "2")
    age(copied, hours=25)
    copied.run("gc")
    june, file = sorted(folder.iterdir())
    assert (june.name, file.name) == ("00000001-00000006.jsonl.zst", "00000007-00000008.jsonl.zst")
    assert raw(copied).startswith(before)
    lake = Lake(copied.path / "lake")
    lines = [lake.raw_lines(batch) for batch in lake.manifest().batches]
    assert [sum(part.num_rows for part in parts) for parts in lines] == [1, 1, 1, 1, 1, 1, 2, 1]
    copied.run("verify")
    file.write_bytes(file.read_bytes()[:-1])
    assert "does not hold the lines of batch 8" in copied.run("verify", exit_code=3).stdout


def joined(home: Home) -> None:
    """June's six files of raw lines in one, and the small ones gone."""
    home.run("compact", "--least", "9")
    age(home, hours=25)
    home.run("gc")


def test_archived_lines_leave_their_proofs(copied: Home, tmp_path: Path) -> None:
    """Batches 1 to 6 came in June, 7 on 1 July: those of June go. What comes back must be the same."""
    before, asked, folder = raw(copied), copied.run("explain", "INV-2026-05-000001").stdout, tmp_path / "kept"
    assert "go together" in copied.run("compact", "--archive-before", "2026-07", exit_code=2).stderr
    late = ("compact", "--least", "9", "--archive-before", "2026-08", "--to", str(folder))
    assert "a month before it is not closed" in copied.run(*late, exit_code=2).stderr
    done = copied.run("compact", "--least", "9", "--archive-before", "2026-07", "--to", str(folder))
    assert "1 file of raw lines archived" in done.stderr and "to batch 6) in " in done.stderr
    age(copied, hours=25)
    copied.run("gc")
    assert [path.name for path in folder.iterdir()] == ["00000001-00000006.jsonl.zst"] and raw(copied, folder) == before
    copied.run("verify")
    assert copied.run("explain", "INV-2026-05-000001").stdout == asked
    back = copied.path / "lake" / "raw" / "00000001-00000006.jsonl.zst"
    shutil.copyfile(folder / back.name, back)
    copied.run("verify")
    age(copied, hours=25)
    copied.run("gc")
    assert back.exists()
    back.write_bytes(back.read_bytes()[:-1])
    assert "00000001-00000006.jsonl.zst was changed" in copied.run("verify", exit_code=3).stdout


def test_killed_while_it_archives(copied: Home, tmp_path: Path) -> None:
    joined(copied)
    before, folder = raw(copied), tmp_path / "kept"
    words = ("compact", "--least", "9", "--archive-before", "2026-07", "--to", str(folder))
    for point in ("archive.before_swap", "archive.after_swap"):
        assert copied.run_apart(*words, failpoint=point).exit_code == KILLED
        copied.run("verify")
    copied.run(*words)
    copied.run("verify")
    assert len([*(copied.path / "lake" / "raw").iterdir()]) == 1 and raw(copied, folder) == before


def test_nothing_in_the_folder_is_overwritten(copied: Home, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    joined(copied)
    (folder / "00000001-00000006.jsonl.zst").write_bytes(b"x")
    before = raw(copied)
    words = ("compact", "--least", "9", "--archive-before", "2026-07", "--to", str(folder))
    assert "is another file than" in copied.run(*words, exit_code=1).stderr
    assert raw(copied) == before
    copied.run("verify")
