"""The lake in an object store: the same results, whatever dies, races or does not answer."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from homes import KILLED, Home, event_lines
from s3_server import CREDENTIALS, Store, new_store

from metering.checks.verify import verify
from metering.clock import Clock
from metering.doctor import records as doctor
from metering.errors import Locked, MeteringError
from metering.events.ingest import ingest
from metering.events.sources import expand
from metering.home import Home as Engine
from metering.lake import Batch, Lake, connect
from metering.lake import bucket as bucket_module
from metering.lake import objects as objects_module
from metering.lake.bucket import Bucket
from metering.lake.objects import Objects
from metering.lake.sweep import HOUR, unneeded
from metering.values import counted, parse_instant

POINTS = {
    *("bucket.before_upload", "bucket.during_upload", "bucket.after_upload"),
    *("bucket.before_replace", "bucket.after_replace"),
}


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
    table = pa.table({"any": range(rows)})
    file = lake.write(f"quarantine/{number:08}.parquet", lambda part: pq.write_table(table, part), rows)
    return Batch(batch=number, ingested_at=number, quarantine=file)


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
        ("explain", "INV-2026-05-000001"),
    )
    return [home.run(*words).stdout for words in wanted]


@pytest.fixture(scope="module")
def closed() -> Iterator[tuple[Path, dict[str, bytes]]]:
    """A home whose lake is in a bucket, after a close, and what the bucket holds then."""
    with pytest.MonkeyPatch.context() as patch:
        store = new_store(patch.setenv)
        home = given(Home(Path(mkdtemp()) / "home"), store.url)
        home.run("close", exit_code=3)
        yield home.path, store.objects()


@pytest.fixture
def month(closed: tuple[Path, dict[str, bytes]], store: Store, tmp_path: Path) -> Home:
    """That home with a bucket of its own, on a machine that has no copies yet."""
    path, objects = closed
    shutil.copytree(path, tmp_path / "home", ignore=shutil.ignore_patterns("cache"))
    for name, data in objects.items():
        store.put(name, data)
    home = Home(tmp_path / "home")
    home.file("metering.toml", f'[lake]\nurl = "{store.url}"\n')
    return home


CHECKS = ("event_files", "close_files", "ledger_copy")
"""The checks of `verify` that look at files of the lake."""


def found(home: Home) -> list[str]:
    """What `verify` finds in the files of the lake."""
    engine = Engine(home.path, Clock(parse_instant(home.now)))
    return [problem for _, problems in verify(engine, CHECKS) for problem in problems]


# The same as in a folder


def test_a_month_is_the_same_as_in_a_folder(month: Home, store: Store, tmp_path: Path) -> None:
    """Also what a second machine is told that has the ledger and no copies; objects are named by content."""
    folder = given(Home(tmp_path / "folder"))
    folder.run("close", exit_code=3)
    assert billed(month) == billed(folder)
    assert asked(month) == asked(folder)
    assert not (month.path / "lake").exists()
    names = sorted(re.sub(r"-[0-9a-f]{16}", "", name) for name in store.objects() if "/0" in name)
    ledger = [f"ledger/00000{number}.jsonl.zst" for number in (1, 2, 3)]
    assert names == ["events/00000001.parquet", *ledger, "quarantine/00000001.parquet", "raw/00000001.jsonl.zst"]
    closes = {name: data for name, data in store.objects().items() if name.startswith("closes/")}
    assert len(closes) == 3
    assert closes == {name: (folder.path / "lake" / name).read_bytes() for name in closes}


def test_a_machine_without_copies_knows_every_repeat(month: Home) -> None:
    month.events("2026-05-02 ready one acc=acc-1 gb=1000\n2026-05-02T06 ready new acc=acc-1", "again.jsonl")
    assert "1 event, 1 repeat" in month.run("ingest").stderr


def test_copies_that_are_damaged_are_fetched_again(month: Home) -> None:
    """Cut off: at the next use. Otherwise: by `verify`, which looks at what the store has."""
    assert found(month) == []
    (before,) = month.run("report", "allocations").stdout.splitlines()[1:2]
    copies = [path for path in (month.path / "cache").rglob("*.*") if path.suffix in (".parquet", ".zst")]
    assert len(copies) == 9
    for path in copies:
        path.write_bytes(path.read_bytes()[:-7])
    assert before in month.run("report", "allocations").stdout
    assert found(month) == []
    for path in copies:
        whole = path.read_bytes()
        path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    assert found(month) == []
    assert before in month.run("report", "allocations").stdout


def test_verify_judges_what_the_store_has(month: Home, store: Store) -> None:
    """Copies on this machine prove nothing. The ledger may be ahead of its last copy: the next run writes it."""
    assert found(month) == []
    objects = {name: data for name, data in store.objects().items() if "/" in name and "ledger/000003" not in name}
    assert {name.partition("/")[0] for name in objects} == {"events", "raw", "quarantine", "closes", "ledger"}
    for name in objects:
        store.delete(name)
    told = " ".join(found(month))
    shown = (name if name.startswith("closes/") else name.partition("-")[0] for name in objects)
    assert all(name in told for name in shown if name != "ledger/000002")
    for name, whole in objects.items():
        store.put(name, whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    told = " ".join(found(month))
    assert all(f"{name} was changed" in told for name in objects if not name.startswith("closes/"))
    assert "cannot be checked" in told
    for name, whole in objects.items():
        store.put(name, whole)
    assert found(month) == []


# Whatever dies

KILLS = [
    *("bucket.before_upload:1", "bucket.after_upload:1", "bucket.after_upload:3", "bucket.after_upload:5"),
    *("bucket.before_replace:1", "bucket.after_replace:1", "bucket.before_replace:2", "bucket.after_replace:2"),
]
QUICK = {"bucket.after_replace:2"}


@pytest.mark.parametrize(
    "point", [pytest.param(point, marks=[] if point in QUICK else [pytest.mark.soak]) for point in KILLS]
)
def test_killed_and_run_again(store: Store, tmp_path: Path, point: str) -> None:
    """Uploads: events, raw, quarantine, then files of the close. Manifests: the first, empty one, then the batch's."""
    home = given(Home(tmp_path / "home"), store.url)
    died = home.run_apart("close", failpoint=point)
    assert died.exit_code == KILLED, f"{point} was never reached: {died}"
    home.run("close", exit_code=None)
    assert [row["amount_due_minor"] for row in home.ledger("invoice_status")] == [0, 500]
    assert len(home.captures()) == 1
    assert found(home) == []
    manifest = json.loads(store.objects()["manifest.json"])
    assert [batch["batch"] for batch in manifest["batches"]] == [1]


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


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        *(("manifest", kind) for kind in ("500", "503", "late 500", "late cut")),
        ("quarantine", "late cut"),
    ],
)
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


@pytest.mark.parametrize(("method", "path"), [("PUT", "manifest"), ("GET", "manifest"), ("PUT", "quarantine")])
def test_an_answer_that_names_another_content(store: Store, tmp_path: Path, method: str, path: str) -> None:
    """It is believed by nobody: what counts is what is there."""
    commit(lake_of(store, tmp_path), 1)
    lake = lake_of(store, tmp_path / "other")
    store.fault("wrong tag", method, path)
    commit(lake, 2)
    assert lake_of(store, tmp_path / "third").manifest().last_batch == 2
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


@pytest.mark.soak
@pytest.mark.parametrize("conditions", ["known", "ignored"])
def test_two_machines_take_in_events_at_once(store: Store, tmp_path: Path, conditions: str) -> None:
    """No lock but the one that a store without conditions needs: what is acknowledged is there, and once."""
    store.door.conditions = conditions
    rounds, turn = 12, Lock()

    @contextmanager
    def taking_turns(name: str) -> Iterator[bool]:
        mine = turn.acquire(blocking=False)
        try:
            yield mine
        finally:
            if mine:
                turn.release()

    def work(machine: str) -> int:
        lake, refused = lake_of(store, tmp_path / machine, taking_turns), 0
        for number in range(rounds):
            path = tmp_path / f"{machine}-{number}.jsonl"
            path.write_text(event_lines(f"2026-05-02 ready {machine}{number}\n2026-05-02 ready both{number}\n"))
            while True:
                try:
                    ingest(lake, expand([str(path)]), number)
                    break
                except MeteringError:
                    refused += 1
        return refused

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(work, ("one", "other"))) > 0
    lake, con = lake_of(store, tmp_path / "third"), connect()
    lake.attach(con)
    query = "SELECT count(*), count(DISTINCT subject), max(batch) FROM events"
    assert con.execute(query).fetchall() == [(3 * rounds, 3 * rounds, lake.manifest().last_batch)]


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


def test_doctor_says_what_the_store_can_do(month: Home, store: Store) -> None:
    engine = Engine(month.path, Clock(parse_instant(month.now)))
    assert [finding.state for finding in doctor.lake(engine)] == ["ok", "ok"]
    store.door.conditions = "ignored"
    first, _ = doctor.lake(engine)
    assert first.state == "warn" and "the ledger's lock does" in first.what


@pytest.mark.parametrize(
    ("variable", "value", "url", "message"),
    [
        ("AWS_SECRET_ACCESS_KEY", "", "", "no credentials were found"),
        ("AWS_PROFILE", "nobody", "", "no credentials were found"),
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1", "", "no answer"),
        ("AWS_ENDPOINT_URL_S3", "nonsense", "", "ValueError"),
        ("AWS_REGION", "here", "s3://no-such-bucket-here/x", "There is no bucket no-such-bucket-here"),
    ],
)
def test_what_cannot_work_is_told(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, url: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    lake = Lake(Bucket(url or store.url, tmp_path, free))
    with pytest.raises(MeteringError, match=message):
        lake.manifest()


def test_the_extra_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.file("metering.toml", '[lake]\nurl = "s3://bucket"\n')
    monkeypatch.setitem(sys.modules, "botocore", None)
    assert "pip install 'metering[s3]'" in home.run("usage", exit_code=2).stderr


BAD_URLS = (
    *("gs://b/x", "s3://", "s3://b/../x", "s3://b/x?secret=1"),
    "s3://key:secret@b/x",  # pragma: allowlist secret; made up
)


@pytest.mark.parametrize("url", BAD_URLS)
def test_what_is_no_bucket_is_refused_without_showing_it(home: Home, url: str) -> None:
    home.file("metering.toml", f'[lake]\nurl = "{url}"\n')
    said = home.run("usage", exit_code=2).stderr
    assert "line 2: lake.url: must be a folder or s3://bucket/prefix" in said and "secret" not in said


def test_credentials_are_nowhere(month: Home, store: Store) -> None:
    """Not in the home, not in what is said."""
    month.events("2026-05-02 ready new acc=acc-1", "new.jsonl")
    store.fault("403", "PUT", "", times=99)
    said = month.run("ingest", exit_code=1).stderr
    assert "the store refuses it (AccessDenied)" in said
    store.door.faults.clear()
    said += month.run("ingest").stderr
    written = b"".join(path.read_bytes() for path in month.path.rglob("*") if path.is_file())
    for secret in (CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in said and secret.encode() not in written


def test_gc_sweeps_the_bucket_and_the_copies(store: Store, tmp_path: Path) -> None:
    """What the manifest does not name, here or there; never what it names."""
    lake = lake_of(store, tmp_path / "cache")
    commit(lake, 1)
    lost = batch_of(lake, 2).quarantine
    assert lost is not None
    store.put(".probe-1234", b"")
    (tmp_path / "cache" / "quarantine" / "gone-elsewhere.parquet").write_bytes(b"")
    later = time.time_ns() // 1000 + HOUR
    gone = unneeded(lake, tmp_path, later, 0, 1)
    copies = [f"{lake.root}/{lost.path}", f"{lake.root}/quarantine/gone-elsewhere.parquet"]
    assert {refuse.what for refuse in gone} == {f"{store.url}/.probe-1234", f"{store.url}/{lost.path}", *copies}
    assert unneeded(lake, tmp_path, later, 24, 1) == []
    kept = set(store.objects()) - {".probe-1234", lost.path}
    for refuse in gone:
        refuse.remove()
    assert set(store.objects()) == kept
    assert len([*(lake.root / "quarantine").iterdir()]) == 1


def test_a_backup_moves_a_lake_from_a_bucket_to_a_folder_and_back(
    month: Home, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Configuration first, then `restore`: nothing that is there is overwritten, and a second time changes nothing."""
    before = month.run("report", "allocations").stdout
    month.run("backup", str(tmp_path / "backup"))
    folder = Home(tmp_path / "folder")
    folder.file("metering.toml", "[lake]\n")
    folder.run("restore", str(tmp_path / "backup"), exit_code=None)
    assert (folder.path / "lake" / "manifest.json").exists()
    assert folder.run("report", "allocations").stdout == before
    other = new_store(monkeypatch.setenv)
    back = Home(tmp_path / "back")
    back.file("metering.toml", f'[lake]\nurl = "{other.url}"\n')
    for _ in range(2):
        back.run("restore", str(tmp_path / "backup"), exit_code=None)
        objects = other.objects()
        assert {name: objects[name] for name in store.objects()} == store.objects()
    assert found(back) == []


def test_a_manifest_that_was_put_back_stops_what_writes(month: Home, store: Store) -> None:
    """By a tool that restores a bucket, or a second machine's copy; put forward again, nothing is lost."""
    before = store.objects()["manifest.json"]
    month.events("2026-05-04 ready late acc=acc-1 gb=10", "late.jsonl")
    month.run("ingest")
    newest = store.objects()["manifest.json"]
    store.put("manifest.json", before)
    month.events("2026-05-05 ready later acc=acc-1 gb=10", "later.jsonl")
    month.now = "2026-07-01T08:00:00Z"
    for command in ("ingest", "nightly", "close", "restore"):
        assert "ends with batch 1, but the ledger" in month.run(command, exit_code=3).stderr
    assert store.objects()["manifest.json"] == before
    store.put("manifest.json", newest)
    assert "batch 3: 1 file, 1 event" in month.run("ingest").stderr
    assert found(month) == []


def test_a_lost_ledger_is_made_again_from_the_bucket(month: Home) -> None:
    before = {name: month.ledger(name) for name in ("invoices", "payments", "entries")}
    for path in month.path.glob("ledger.db*"):
        path.unlink()
    assert "older than its copy" in month.run("collect", exit_code=3).stderr
    month.run("restore", exit_code=None)
    assert {name: month.ledger(name) for name in before} == before


def test_a_night_lists_no_history(store: Store, tmp_path: Path) -> None:
    """However many nights and closes there were, its lists begin after the newest name that it knows.

    So they only tell of what others have written since; there are as many of them each night.
    """

    def lists_of(run: Callable[[], object]) -> int:
        store.door.asked.clear()
        run()
        lists = [line for line in store.door.asked if "list-type" in line]
        assert lists and all("start-after=" in line for line in lists), lists
        return len(lists)

    home = given(Home(tmp_path / "home"), store.url)
    home.accounts("acc-2,USD,0,pm_card_visa")
    seen = []
    for month in (6, 7, 8):
        home.now = f"2026-0{month}-01T08:00:00Z"
        home.run("close", exit_code=None)
        home.now = f"2026-0{month}-02T08:00:00Z"
        home.events(f"2026-0{month}-01T05 ready n{month} acc=acc-1", f"n{month}.jsonl")
        seen.append(lists_of(lambda: home.run("nightly", exit_code=None)))
    assert seen[0] == seen[1] == seen[2]


# Events that lie in a store


def test_events_are_read_from_a_store(home: Home, store: Store) -> None:
    """An object, and all below a name; what producers still write, hidden and foreign objects are left alone."""
    lines = {name: event_lines(f"2026-05-02 ready {name} acc=acc-1") for name in ("a", "b", "c", "d")}
    given = {"in/2026/b.jsonl": "b", "in/a.jsonl": "a", "in-2/d.jsonl": "d"}
    left = {"in/c.jsonl.part": "c", "in/.x/c.jsonl": "c", "in/../../c.jsonl": "c", "in/readme.txt": "c"}
    for name, line in {**given, **left}.items():
        store.put(name, lines[line].encode())
    assert "2 files, 2 events, 0 repeats" in home.run("ingest", f"{store.url}/in").stderr
    assert "1 file, 1 event" in home.run("ingest", f"{store.url}/in-2/d.jsonl").stderr
    assert sorted(path.name for path in (home.path / "lake").glob(".*")) == []
    assert "not a file of events" in home.run("ingest", f"{store.url}/in/readme.txt", exit_code=2).stderr
    assert "no such object" in home.run("ingest", f"{store.url}/nowhere", exit_code=2).stderr


@pytest.mark.parametrize(
    ("pattern", "files"),
    [("in/*.jsonl", 1), ("in/**/*.jsonl", 2), ("i?/2026", 1), ("in*/[ab].jsonl", 1), ("in*", 3), ("**/d.jsonl", 1)],
)
def test_a_glob_stands_for_objects_and_folders_of_a_store(home: Home, store: Store, pattern: str, files: int) -> None:
    for name in ("in/2026/b.jsonl", "in/a.jsonl", "in-2/d.jsonl", "in/.x/c.jsonl", "in/readme.txt", "in/e.jsonl.part"):
        store.put(name, event_lines(f"2026-05-02 ready {name} acc=acc-1").encode())
    assert f"{counted(files, 'file')}, {counted(files, 'event')}" in home.run("ingest", f"{store.url}/{pattern}").stderr
    if pattern == "in/*.jsonl":
        assert "no object matches" in home.run("ingest", f"{store.url}/x*", exit_code=2).stderr
        assert "not a file of events" in home.run("ingest", f"{store.url}/in/*.txt", exit_code=2).stderr
