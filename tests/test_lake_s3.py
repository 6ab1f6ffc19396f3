"""The lake in an object store: the same results, whatever dies, races or does not answer."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from homes import KILLED, Home
from s3_server import CREDENTIALS, Store, new_store

from metering.errors import Locked, MeteringError, UsageError
from metering.lake import Batch, Lake
from metering.lake import bucket as bucket_module
from metering.lake import objects as objects_module
from metering.lake.bucket import Bucket
from metering.lake.objects import Objects
from metering.schema import arrow_schema

POINTS = {
    *("bucket.before_upload", "bucket.during_upload", "bucket.after_upload"),
    *("bucket.before_replace", "bucket.after_replace"),
}
CLOCK = "2026-06-01T08:00:00Z"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(bucket_module, "_pauses", lambda tries, longest=0.0: iter([0.0] * tries))
    return new_store(monkeypatch.setenv)


@contextmanager
def free(name: str) -> Iterator[bool]:
    """A ledger's claim that nobody else holds."""
    yield True


@contextmanager
def held(name: str) -> Iterator[bool]:
    """A ledger's claim that another run holds."""
    yield False


def lake_of(store: Store, folder: Path, claim: Any = free) -> Lake:
    return Lake(Bucket(store.url, folder, claim))


def commit(lake: Lake, number: int, rows: int = 1) -> None:
    """A batch of so many equal events."""
    lake.commit(batch_of(lake, number, rows))


def batch_of(lake: Lake, number: int, rows: int = 1) -> Batch:
    schema = arrow_schema("quarantine")
    table = pa.table([pa.array([None] * rows, field.type) for field in schema], schema=schema)
    copy = lambda part: pq.write_table(table, part)  # noqa: E731
    return Batch(batch=number, ingested_at=number, quarantine=lake.write(f"quarantine/{number:08}.parquet", copy, rows))


def given(home: Home, url: str = "") -> Home:
    """Two accounts, an inbox with good lines and a bad one; cards that work and that are declined."""
    if url:
        home.file("metering.toml", f'[lake]\nurl = "{url}"\n')
    home.prices("snapshot.vm,,USD,0.001,2026-01-01,")
    home.accounts("acc-1,USD,10,pm_card_visa", "acc-2,USD,0,pm_card_chargeDeclined")
    home.events("2026-05-02 ready one acc=acc-1 gb=1000\n2026-05-02T10 deleted one", "a.jsonl")
    home.events("2026-05-02 ready two acc=acc-2 gb=1000\n2026-05-02T05 deleted two", "b.jsonl")
    home.file("inbox/c.jsonl", '{"no": "event"}\n')
    return home


def billed(home: Home) -> dict[str, Any]:
    """What came of it, wherever the lake lies."""
    return {name: rows for name, rows in home.state().items() if name != "files"}


def asked(home: Home) -> list[str]:
    """What people ask."""
    wanted = (
        ("usage", "--by", "snapshot", "--format", "csv"),
        ("report", "allocations", "--format", "csv"),
        ("report", "quarantine", "--format", "csv"),
        ("explain", "INV-2026-05-000001"),
    )
    return [home.run(*words).stdout for words in wanted]


# The same as in a folder


def test_a_month_is_the_same_as_in_a_folder(store: Store, tmp_path: Path) -> None:
    """Close, late events, compaction, archiving, another close; the objects are named as the files, by content."""
    homes = [given(Home(tmp_path / "folder")), given(Home(tmp_path / "bucket"), store.url)]
    for home in homes:
        home.run("close", exit_code=3)
        home.now = "2026-07-01T08:00:00Z"
        home.events("2026-05-02T03 deleted two id=late\n2026-06-01 ready three acc=acc-1", "d.jsonl")
        home.run("nightly", exit_code=None)
        home.run("compact", "--least", "2")
        home.run("close", exit_code=None)
        home.run("compact", "--archive-before", "2026-07", "--to", str(home.path / "raw"))
    one, other = homes
    assert billed(one) == billed(other)
    assert asked(one) == asked(other)
    one.run("verify")
    other.run("verify")
    assert not (other.path / "lake").exists()
    named = {"-".join(name.split("-")[:-1]) or name for name in store.objects() if name.startswith("events/")}
    assert named >= {"events/00000001", "events/00000002", "events/00000001-00000002"}
    closes = {name: data for name, data in store.objects().items() if name.startswith("closes/")}
    assert len(closes) == 6
    assert closes == {name: (one.path / "lake" / name).read_bytes() for name in closes}


def test_a_second_machine_sees_what_the_first_has_done(store: Store, tmp_path: Path) -> None:
    """It has the ledger and nothing else; a lost cache is the same."""
    home = given(Home(tmp_path / "one"), store.url)
    home.run("close", exit_code=3)
    before = asked(home)
    shutil.rmtree(home.path / "cache")
    assert asked(home) == before
    home.run("verify")
    home.events("2026-05-02 ready one acc=acc-1 gb=1000\n2026-05-02T06 ready new acc=acc-1", "again.jsonl")
    shutil.rmtree(home.path / "cache")
    assert "1 events, 1 repeats" in home.run("ingest").stderr


def test_copies_that_are_damaged_are_fetched_again(store: Store, tmp_path: Path) -> None:
    """Cut off: at the next use. Otherwise: by `verify`, which looks at what the store has."""
    home = given(Home(tmp_path / "home"), store.url)
    home.run("close", exit_code=3)
    before = asked(home)
    copies = [path for path in (home.path / "cache").rglob("*-*.*") if path.suffix in (".parquet", ".zst")]
    assert len(copies) >= 3
    for path in copies:
        path.write_bytes(path.read_bytes()[:-7])
    home.run("accounts", "import", str(home.path / "accounts.csv"))
    assert asked(home) == before
    for path in copies:
        whole = path.read_bytes()
        path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    home.run("verify", exit_code=None)
    home.run("verify")
    assert asked(home) == before


def test_verify_judges_what_the_store_has(store: Store, tmp_path: Path) -> None:
    home = given(Home(tmp_path / "home"), store.url)
    home.run("close", exit_code=3)
    home.run("verify")
    for name, whole in store.objects().items():
        if name.startswith("ledger/") or name == "manifest.json":
            continue
        store.delete(name)
        assert name in home.run("verify", exit_code=3).stdout, name
        store.put(name, whole[:-9] + b"x" + whole[-8:])
        assert name in home.run("verify", exit_code=3).stdout, name
        store.put(name, whole)
    home.run("verify")


# Whatever dies


@pytest.mark.parametrize(
    "point",
    [
        *("bucket.before_upload:1", "bucket.after_upload:1", "bucket.after_upload:3", "bucket.after_upload:5"),
        *("bucket.before_replace:1", "bucket.after_replace:1", "bucket.before_replace:2", "bucket.after_replace:2"),
    ],
)
def test_killed_and_run_again(killable: Home, store_of_killable: Store, point: str) -> None:
    home = killable
    died = home.run_apart("close", failpoint=point)
    assert died.exit_code == KILLED, f"{point} was never reached: {died}"
    home.run("close", exit_code=None)
    assert [row["amount_due_minor"] for row in home.ledger("invoice_status")] == [0, 500]
    assert len(home.captures()) == 1
    home.run("verify")
    manifest = json.loads(store_of_killable.objects()["manifest.json"])
    assert [batch["batch"] for batch in manifest["batches"]] == [1]


@pytest.fixture
def store_of_killable(store: Store) -> Store:
    return store


@pytest.fixture
def killable(store_of_killable: Store, tmp_path: Path) -> Home:
    return given(Home(tmp_path / "home"), store_of_killable.url)


def test_killed_within_a_large_file(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parts are no object; they are swept, and the file is uploaded again."""
    monkeypatch.setattr(objects_module, "PART_BYTES", 5 * 2**20)
    path = tmp_path / "large"
    path.write_bytes(os.urandom(6 * 2**20))
    child = os.fork()
    if child == 0:
        os.environ["METERING_FAILPOINT"] = "bucket.during_upload"
        Objects(store.url).upload(path, "raw/large")
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == -KILLED
    objects = Objects(store.url)
    assert store.objects() == {} and len(objects.unfinished()) == 1
    objects.upload(path, "raw/large")
    assert store.objects()["raw/large"] == path.read_bytes()
    (refuse,) = lake_of(store, tmp_path).files.refuse()
    refuse.remove()
    assert objects.unfinished() == [] and len(store.objects()) == 1


# Whatever does not answer


@pytest.mark.parametrize("kind", ["500", "late 500", "late cut"])
@pytest.mark.parametrize("path", ["manifest", "quarantine"])
def test_an_answer_that_never_came(store: Store, tmp_path: Path, kind: str, path: str) -> None:
    """The manifest is read back; a file is sent again by the next run."""
    lake = lake_of(store, tmp_path)
    commit(lake, 1)
    store.fault(kind, "PUT", path)
    if path == "manifest":
        commit(lake, 2)
    else:
        with pytest.raises(MeteringError, match="no answer"):
            commit(lake, 2)
        commit(lake, 2)
    assert lake_of(store, tmp_path / "other").manifest().last_batch == 2
    commit(lake, 3)
    assert [batch.batch for batch in lake.manifest().batches] == [1, 2, 3]


@pytest.mark.parametrize(("kind", "last"), [("500", 1), ("late 500", 2)])
def test_a_store_that_stays_silent(store: Store, tmp_path: Path, kind: str, last: int) -> None:
    """Nobody knows what became of it, and that is said; the next run finds the lake as before or as after."""
    lake = lake_of(store, tmp_path)
    commit(lake, 1)
    batch = batch_of(lake, 2)
    puts = store.fault(kind, "PUT", "manifest", times=99)
    gets = store.fault("500", "GET", "manifest", times=0)
    puts.before = lambda: setattr(gets, "times", 99)
    with pytest.raises(MeteringError, match="could not be replaced"):
        lake.commit(batch)
    puts.times = gets.times = 0
    assert lake.manifest().last_batch == last


def test_a_request_that_is_held_up_cannot_undo_a_later_one(store: Store, tmp_path: Path) -> None:
    """The first PUT of batch 2 comes to the store only after another run has committed its own batch 2."""
    one, other = lake_of(store, tmp_path / "one"), lake_of(store, tmp_path / "other")
    commit(one, 1)
    batch = batch_of(one, 2)
    store.fault("as it is", "PUT", "manifest", before=lambda: commit(other, 2, rows=7))
    with pytest.raises(MeteringError, match="replaced by another run"):
        one.commit(batch)
    (_, second) = one.manifest().batches
    assert second.quarantine is not None and second.quarantine.rows == 7


# Two at once


@pytest.mark.parametrize("conditions", ["known", "ignored", "refused"])
def test_of_two_runs_one_counts(store: Store, tmp_path: Path, conditions: str) -> None:
    """Both have decided on the same manifest. Their files do not overwrite each other, and no batch is lost."""
    store.door.conditions = conditions
    one, other = lake_of(store, tmp_path / "one"), lake_of(store, tmp_path / "other")
    first, second = batch_of(one, 1, rows=1), batch_of(other, 1, rows=2)
    other.commit(second)
    with pytest.raises(MeteringError, match="does not follow"):
        one.commit(first)
    commit(one, 2)
    assert [batch.quarantine.rows for batch in one.manifest().batches if batch.quarantine] == [2, 1]
    seen = one.manifest()
    commit(other, 3)
    with pytest.raises(MeteringError, match="replaced by another run"):
        one.archive(1, seen)
    assert [name for name in store.objects() if name.startswith(".")] == []


@pytest.mark.parametrize(("conditions", "known"), [("known", True), ("ignored", False), ("refused", False)])
def test_what_a_store_can_do_is_tried(store: Store, tmp_path: Path, conditions: str, known: bool) -> None:
    """At first use, and anew by doctor; a note beside the copies is believed for the same endpoint only."""
    store.door.conditions = conditions
    bucket = Bucket(store.url, tmp_path, free)
    assert bucket.is_conditional() == known
    asked = len(store.door.asked)
    assert Bucket(store.url, tmp_path, free).is_conditional() == known
    assert len(store.door.asked) == asked
    store.door.conditions = "ignored"
    assert not bucket.is_conditional(anew=True) and not bucket.is_conditional()
    note = json.loads((tmp_path / ".store.json").read_text())
    (tmp_path / ".store.json").write_text(json.dumps({**note, "endpoint": "http://other", "is_conditional": True}))
    assert not bucket.is_conditional()


def test_without_conditions_the_ledgers_lock_is_needed(store: Store, tmp_path: Path) -> None:
    store.door.conditions = "ignored"
    commit(lake_of(store, tmp_path), 1)
    busy = lake_of(store, tmp_path, held)
    with pytest.raises(Locked, match="Another run is replacing"):
        busy.commit(batch_of(busy, 2))
    assert busy.manifest().last_batch == 1


@pytest.mark.parametrize("kind", ["500", "late 500"])
def test_without_conditions_what_is_written_is_read_back(store: Store, tmp_path: Path, kind: str) -> None:
    store.door.conditions = "ignored"
    lake = lake_of(store, tmp_path)
    commit(lake, 1)
    store.fault(kind, "PUT", "manifest")
    commit(lake, 2)
    assert [batch.batch for batch in lake.manifest().batches] == [1, 2]


# What people meet


def test_doctor_says_what_the_store_can_do(store: Store, tmp_path: Path) -> None:
    home = given(Home(tmp_path / "home"), store.url)
    told = lambda: home.run("doctor", "--format", "csv", exit_code=None).stdout  # noqa: E731
    assert "keeps runs apart by itself" in told()
    store.door.conditions = "ignored"
    assert "the ledger's lock does" in told()
    store.fault("403", "GET", "", times=99)
    store.fault("403", "PUT", "", times=99)
    assert "the store refuses it (AccessDenied)" in told()


@pytest.mark.parametrize(
    ("unset", "url", "message"),
    [
        ("AWS_SECRET_ACCESS_KEY", "", "credentials"),
        ("", "s3://no-such-bucket-here/x", "There is no bucket no-such-bucket-here"),
    ],
)
def test_what_cannot_work_is_told(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unset: str, url: str, message: str
) -> None:
    if unset:
        monkeypatch.delenv(unset)
    lake = Lake(Bucket(url or store.url, tmp_path, free))
    with pytest.raises(UsageError, match=message):
        lake.manifest()


def test_credentials_are_nowhere(store: Store, tmp_path: Path) -> None:
    """Not in the home, not in what is said."""
    home = given(Home(tmp_path / "home"), store.url)
    said = home.run("close", exit_code=3).stderr
    store.fault("403", "PUT", "", times=99)
    home.events("2026-05-02 ready new acc=acc-1", "new.jsonl")
    said += home.run("ingest", exit_code=1).stderr
    store.door.faults.clear()
    said += home.run("doctor", exit_code=None).stdout
    written = b"".join(path.read_bytes() for path in home.path.rglob("*") if path.is_file())
    for secret in (CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in said and secret.encode() not in written


def test_gc_sweeps_the_bucket_and_the_copies(store: Store, tmp_path: Path) -> None:
    home = given(Home(tmp_path / "home", now="2027-06-01T08:00:00Z"), store.url)
    home.run("ingest", exit_code=3)
    home.events("2026-05-03 ready new acc=acc-1", "d.jsonl")
    home.run("ingest")
    home.run("compact", "--least", "2")
    store.put(".probe-1234", b"")
    told = home.run("gc", "--dry-run").stdout
    assert f"{store.url}/.probe-1234" in told and "cache/" in told
    before = set(store.objects())
    home.run("gc")
    gone = {name.partition("/")[0] for name in before - set(store.objects())}
    assert gone == {"events", "raw", ".probe-1234"}
    named = {name for name in store.objects() if name.startswith(("events/", "raw/", "quarantine/"))}
    cache = home.path / "cache" / store.bucket / "some" / "lake"
    copies = (path for folder in ("events", "raw", "quarantine") for path in (cache / folder).iterdir())
    assert {str(path.relative_to(cache)) for path in copies} == named
    home.run("verify")


def test_a_backup_moves_a_lake_from_a_folder_to_a_bucket_and_back(store: Store, tmp_path: Path) -> None:
    """Configuration first, then `restore`: nothing that is there is overwritten, and a second time changes nothing."""
    home = given(Home(tmp_path / "one"))
    home.run("close", exit_code=3)
    home.run("backup", str(tmp_path / "backup"))
    moved = Home(tmp_path / "two")
    moved.file("metering.toml", f'[lake]\nurl = "{store.url}"\n')
    moved.run("restore", str(tmp_path / "backup"), exit_code=None)
    moved.run("verify")
    assert asked(moved) == asked(home)
    objects = store.objects()
    moved.run("restore", str(tmp_path / "backup"), exit_code=None)
    assert {name: data for name, data in store.objects().items() if name in objects} == objects
    moved.run("backup", str(tmp_path / "again.tar.zst"))
    back = Home(tmp_path / "three")
    back.run("restore", str(tmp_path / "again.tar.zst"), exit_code=None)
    back.run("verify")
    assert asked(back) == asked(home)


def test_a_lost_ledger_is_made_again_from_the_bucket(store: Store, tmp_path: Path) -> None:
    home = given(Home(tmp_path / "home"), store.url)
    home.run("close", exit_code=3)
    before = {name: home.ledger(name) for name in ("invoices", "payments", "entries")}
    for path in home.path.glob("ledger.db*"):
        path.unlink()
    shutil.rmtree(home.path / "cache")
    assert "older than its copy" in home.run("collect", exit_code=3).stderr
    home.run("restore", exit_code=None)
    assert {name: home.ledger(name) for name in before} == before
    home.run("verify")


def test_a_night_lists_no_history(store: Store, tmp_path: Path) -> None:
    """What a run asks of the store does not grow with the batches and runs there were."""

    def requests(run: Callable[[], object]) -> list[str]:
        store.door.asked.clear()
        run()
        return [line for line in store.door.asked if "list-type" in line]

    home = given(Home(tmp_path / "home"), store.url)
    home.run("ingest", exit_code=3)
    for number in range(3):
        home.events(f"2026-05-03 ready n{number} acc=acc-1", f"n{number}.jsonl")
        listed = requests(lambda: home.run("ingest"))
        assert all("prefix=some%2Flake%2Fcloses%2F" in line or "start-after=" in line for line in listed), listed
