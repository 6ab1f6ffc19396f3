"""What an ingest leaves in the lake: every line once, whatever comes, in whatever order, and whoever kills it."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import tempfile
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from homes import KILLED, run_until
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.errors import MeteringError, UsageError
from metering.events import sources as sources_module
from metering.events.inbox import take_inbox
from metering.events.ingest import SCRATCH, IngestResult, ingest
from metering.events.sources import CHUNK_BYTES, Source, chunks, expand, waiting
from metering.lake import Lake, connect, define

NOW = 1_780_000_000_000_000
TIME = "2026-05-03T10:00:00Z"


def ready(identity: str = "e-1", *, source: str = "/s", size: Any = 5, **changes: Any) -> dict[str, Any]:
    """A snapshot.ready event."""
    event = {
        "specversion": "1.0",
        "id": identity,
        "source": source,
        "type": "snapshot.ready",
        "subject": f"snap-{identity}",
        "time": TIME,
        "data": {
            "account_id": "acc-1",
            "project_id": "prj-1",
            "region": "us-east",
            "resource_type": "vm",
            "resource_id": "vm-9",
            "size_bytes": size,
        },
    }
    return {**event, **changes}


def text(*events: Any) -> bytes:
    """JSON Lines; a text stands for itself."""
    return b"".join((each if isinstance(each, str) else json.dumps(each)).encode() + b"\n" for each in events)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake."""
    return Lake(tmp_path / "lake")


def put(folder: Path, name: str, *events: Any) -> Path:
    """A file of JSON Lines."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text(*events))
    return path


def take(lake: Lake, *paths: Path | str, now: int = NOW) -> IngestResult:
    """Ingest what the paths name."""
    return ingest(lake, expand([str(path) for path in paths], stdin=io.BytesIO()), now)


def rows(lake: Lake, query: str, through: int | None = None) -> list[tuple[Any, ...]]:
    """What a query over the lake gives."""
    with connect() as con:
        lake.attach(con, through)
        return con.execute(query).fetchall()


def raws(lake: Lake) -> dict[tuple[str, str], str]:
    """The raw line of each event; each event has one, and each raw line an event."""
    lines = {
        (row["batch"], row["seq"]): row["raw"]
        for batch in lake.manifest().batches
        for some in lake.raw_lines(batch)
        for row in some.to_pylist()
    }
    events = {
        (batch, seq): (source, id) for batch, seq, source, id in rows(lake, "SELECT batch, seq, source, id FROM events")
    }
    assert lines.keys() == events.keys()
    return {events[place]: raw for place, raw in lines.items()}


def identities(lake: Lake) -> set[tuple[str, str]]:
    """The identities in the lake, each of which must stand there once."""
    found = rows(lake, "SELECT source, id FROM events")
    assert len(set(found)) == len(found)
    return set(found)


def state(lake: Lake) -> tuple[list[Any], list[Any], int]:
    """All that a re-run must not change."""
    return (
        sorted(rows(lake, "SELECT * FROM events"), key=str),
        sorted(rows(lake, "SELECT * FROM quarantine"), key=str),
        lake.manifest().last_batch,
    )


# Batches


def test_events_carry_their_batch_and_their_columns(lake: Lake, tmp_path: Path) -> None:
    """A batch is numbered from 1, its events carry it, the clock, and their raw text."""
    file = put(tmp_path, "a.jsonl", ready(type="com.acme.snapshot.ready"))
    result = take(lake, file)
    assert (result.batch, result.accepted, result.files, result.lines) == (1, 1, 1, 1)
    query = "SELECT batch, ingested_at, type, time, size_bytes, name, seq FROM events"
    assert rows(lake, query) == [(1, NOW, "snapshot.ready", 1777802400000000, 5, None, 1)]
    assert raws(lake) == {("/s", "e-1"): file.read_text().rstrip("\n")}


def test_stored_columns_are_those_of_the_dictionary(lake: Lake, tmp_path: Path) -> None:
    """No type changes on the way into Parquet."""
    from metering.schema import arrow_schema

    take(lake, put(tmp_path, "a.jsonl", ready(), "nope"))
    for name in ("events", "quarantine"):
        assert lake.manifest().batches[0].raw.path == "raw/00000001.jsonl.zst"  # type: ignore[union-attr]
        schema = pq.read_schema(lake.root / name / "00000001.parquet")
        assert [(each.name, each.type) for each in schema] == [(each.name, each.type) for each in arrow_schema(name)]


def test_stored_events_are_sorted_by_type_and_time(lake: Lake, tmp_path: Path) -> None:
    """Readers skip row groups by type and time."""
    times = [f"2026-05-{day:02}T00:00:00Z" for day in range(1, 29)]
    kinds = ("snapshot.ready", "vm.deleted")
    events = [ready(f"{kind}{time}", type=kind, time=time) for time in times for kind in kinds]
    random.Random(1).shuffle(events)
    take(lake, put(tmp_path, "a.jsonl", *events))
    table = pq.read_table(lake.root / "events/00000001.parquet", columns=["type", "time"])
    stored = list(zip(table["type"].to_pylist(), table["time"].to_pylist(), strict=True))
    assert stored == sorted(stored) and len(stored) == 56


def test_the_same_again_changes_nothing(lake: Lake, tmp_path: Path) -> None:
    """The same file, the same events in another file: no batch, no row; repeats are counted."""
    first = put(tmp_path, "a.jsonl", ready(), ready("e-2"), "nope", "nope", ready("e-3", size=-1))
    result = take(lake, first)
    assert (result.accepted, result.quarantined) == (2, 3)
    assert result.reasons == {"malformed_json": 2, "negative_size": 1}
    before = state(lake)
    again = take(lake, first, now=NOW + 1)
    assert (again.batch, again.accepted, again.duplicates, again.quarantined) == (None, 0, 2, 0)
    assert not again.needs_person
    other = put(tmp_path, "b.jsonl", "nope", ready("e-2"), {**ready(), "extra": 1}, "nope")
    assert take(lake, other).duplicates == 2
    assert state(lake) == before
    more = take(lake, put(tmp_path, "c.jsonl", "nope", "nope", "nope"))
    assert (more.batch, more.quarantined) == (2, 1)


def test_repeats_within_one_run_are_dropped_and_counted(lake: Lake, tmp_path: Path) -> None:
    """A repeat within a file and in the next file counts like one from an earlier batch."""
    a = put(tmp_path, "a.jsonl", ready(), ready(), ready(type="com.acme.snapshot.ready"))
    b = put(tmp_path, "b.jsonl", ready(time="2026-05-03T12:00:00+02:00"), ready(source="/t"))
    result = take(lake, a, b)
    assert (result.accepted, result.duplicates, result.quarantined) == (2, 3, 0)
    assert identities(lake) == {("/s", "e-1"), ("/t", "e-1")}
    assert lake.manifest().batches[0].duplicates == 3


def test_nothing_makes_no_batch(lake: Lake, tmp_path: Path) -> None:
    """An empty folder, an empty file and blank lines leave no batch."""
    (tmp_path / "in").mkdir()
    assert take(lake, tmp_path / "in").batch is None
    assert take(lake, put(tmp_path, "in/a.jsonl", "", " ")).batch is None
    assert lake.manifest().last_batch == 0


def test_a_quarantined_line_does_not_use_up_its_id(lake: Lake, tmp_path: Path) -> None:
    """The event sent again in good shape is accepted."""
    take(lake, put(tmp_path, "a.jsonl", ready(size="5")))
    assert take(lake, put(tmp_path, "b.jsonl", ready(size=5))).accepted == 1


def test_one_source_and_id_are_not_glued_together(lake: Lake, tmp_path: Path) -> None:
    """Identity is the pair, not its text; case and accents matter."""
    events = [ready("b", source="a/"), ready("/b", source="a"), ready("B", source="a/"), ready("b́", source="a/")]
    assert take(lake, put(tmp_path, "a.jsonl", *events)).accepted == 4


# Quarantine


def test_a_quarantine_row_says_where_and_why(lake: Lake, tmp_path: Path) -> None:
    """File, line, reason, sentence and the bytes as they came."""
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"\n\xff\xfe{}\r\n" + text(ready(size=-1)) + b"\xc3\xa9")
    take(lake, path)
    query = "SELECT file, line, reason, raw, source, event_id FROM quarantine ORDER BY line"
    found = rows(lake, query)
    assert [row[:3] for row in found] == [
        ("bad.jsonl", 2, "malformed_json"),
        ("bad.jsonl", 3, "negative_size"),
        ("bad.jsonl", 4, "malformed_json"),
    ]
    assert found[0][3] == b"\xff\xfe{}"


def test_the_same_bad_line_in_another_file_is_the_same_row(lake: Lake, tmp_path: Path) -> None:
    """A row is the raw text and its occurrence in the file, also within one run."""
    a, b = put(tmp_path, "a.jsonl", "x", "y", "x"), put(tmp_path, "b.jsonl", "x", "x", "x")
    assert take(lake, a, b).quarantined == 4
    found = rows(lake, "SELECT file, line, CAST(raw AS VARCHAR) FROM quarantine ORDER BY file, line")
    assert found == [("a.jsonl", 1, "x"), ("a.jsonl", 2, "y"), ("a.jsonl", 3, "x"), ("b.jsonl", 3, "x")]
    assert len(set(rows(lake, "SELECT id FROM quarantine"))) == 4


# Conflicts

CHANGES = {
    "type": {"type": "snapshot.deleted"},
    "subject": {"subject": "snap-other"},
    "time": {"time": "2026-05-03T10:00:00.000001Z"},
    **{
        key: {"data": {**ready()["data"], key: value}}
        for key, value in {
            "account_id": "acc-2",
            "project_id": "prj-2",
            "region": "eu",
            "resource_type": "volume",
            "resource_id": "vm-8",
            "name": "n",
            "size_bytes": 6,
        }.items()
    },
}


@pytest.mark.parametrize("field", CHANGES)
@pytest.mark.parametrize("same_run", [True, False])
def test_a_repeat_that_differs_is_a_conflict(lake: Lake, tmp_path: Path, field: str, same_run: bool) -> None:
    """The first stands; the other is quarantined, names what differs, and is no new row the next time."""
    first = put(tmp_path, "a.jsonl", "", ready())
    second = put(tmp_path, "b.jsonl", ready(**CHANGES[field]))
    results = [take(lake, first, second)] if same_run else [take(lake, first), take(lake, second)]
    assert results[-1].conflicts == results[-1].quarantined == 1
    assert results[-1].reasons == {"conflict": 1}
    query = "SELECT reason, message, source, event_id, subject, account_id, file, line FROM quarantine"
    ((reason, message, source, event_id, subject, account, file, line),) = rows(lake, query)
    assert (reason, source, event_id, file, line) == ("conflict", "/s", "e-1", "b.jsonl", 1)
    assert field in message and ("a.jsonl, line 2" if same_run else "batch 1") in message
    assert subject == ("snap-other" if field == "subject" else "snap-e-1")
    assert account == {"type": None, "account_id": "acc-2"}.get(field, "acc-1")
    assert rows(lake, "SELECT size_bytes, subject, type FROM events") == [(5, "snap-e-1", "snapshot.ready")]
    before = state(lake)
    again = take(lake, second, first)
    assert (again.batch, again.duplicates, again.quarantined) == (None, 1, 0)
    assert state(lake) == before


def test_what_a_type_does_not_use_makes_no_conflict(lake: Lake, tmp_path: Path) -> None:
    """Unknown fields, and data that the type does not read, may differ."""
    gone = {"type": "snapshot.deleted"}
    events = [ready(**gone), ready(size=9, **gone), ready(data={"x": 1}, **gone), ready(extra=1, **gone)]
    result = take(lake, put(tmp_path, "a.jsonl", *events))
    assert (result.accepted, result.duplicates, result.quarantined) == (1, 3, 0)


def test_a_retraction_of_something_else_is_a_conflict(lake: Lake, tmp_path: Path) -> None:
    """The typed data of event.retracted counts too."""
    events = [ready(type="event.retracted", data={"retracted_source": "/s", "retracted_id": other}) for other in "ab"]
    result = take(lake, put(tmp_path, "a.jsonl", *events))
    assert (result.accepted, result.conflicts) == (1, 1)


def test_file_and_line_order_decide_within_a_run(lake: Lake, tmp_path: Path) -> None:
    """Files count in the order given, a folder's by name."""
    put(tmp_path, "in/b.jsonl", ready(size=2))
    put(tmp_path, "in/a.jsonl", "nope", ready(size=1), ready(size=3))
    result = take(lake, tmp_path / "in")
    assert result.conflicts == 2
    assert rows(lake, "SELECT size_bytes FROM events") == [(1,)]
    other = Lake(tmp_path / "other")
    take(other, tmp_path / "in/b.jsonl", tmp_path / "in/a.jsonl")
    assert rows(other, "SELECT size_bytes FROM events") == [(2,)]


# Sources


def zst(content: bytes) -> bytes:
    """One zstd frame."""
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


PACKERS = {
    ".jsonl": bytes,
    ".ndjson": bytes,
    ".jsonl.gz": gzip.compress,
    ".ndjson.gz": gzip.compress,
    ".jsonl.zst": zst,
    ".ndjson.zst": zst,
}


@pytest.mark.parametrize("extension", PACKERS)
def test_packed_files(lake: Lake, tmp_path: Path, extension: str) -> None:
    """Plain and packed files, of several members or frames, with a byte-order mark and Windows line ends."""
    pack = PACKERS[extension]
    first = b"\xef\xbb\xbf" + json.dumps(ready("e-1")).encode() + b"\r\n"
    second = json.dumps(ready("e-2")).encode()
    (tmp_path / f"a{extension}").write_bytes(pack(first) + pack(second))
    result = take(lake, tmp_path / f"a{extension}")
    assert (result.accepted, result.quarantined) == (2, 0)
    assert list(raws(lake).values()) == [json.dumps(ready(f"e-{at}")) for at in (1, 2)]


def test_a_stream_in_small_pieces_is_the_same_stream(tmp_path: Path) -> None:
    """Chunks end with lines wherever the reads end, and a mark is taken off once."""
    content = b"\xef\xbb\xbf" + b"\n".join([b"", b"a" * 50, b"", b"b", b"\xef\xbb\xbfc"])
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    for size in (1, 2, 3, 7, 100, CHUNK_BYTES):
        if size >= 3:
            assert b"".join(piece for piece, _ in chunks(Source("a", path), size)) == content[3:]
        pieces = [piece for piece, _ in chunks(Source("-", stream=io.BytesIO(content)), size)]
        assert all(piece.endswith(b"\n") for piece in pieces[:-1])


def test_standard_input(lake: Lake) -> None:
    """`-` reads standard input; its quarantine rows name it so."""
    stdin = io.TextIOWrapper(io.BytesIO(text(ready(), "nope")))
    result = ingest(lake, expand(["-"], stdin=stdin), NOW)
    assert (result.accepted, result.quarantined) == (1, 1)
    assert rows(lake, "SELECT file, line FROM quarantine") == [("-", 2)]


def test_folders_and_globs(tmp_path: Path) -> None:
    """Sorted, each file once, to their depth, without what is still being written or holds no events."""
    unfinished = ("c.jsonl.part", "d.tmp", ".e.jsonl", ".g/h.jsonl")
    for name in ("b.jsonl", "a.ndjson", "sub/f.jsonl.gz", "x.txt", *unfinished):
        put(tmp_path, name)

    def names(*sources: str) -> list[str]:
        found = expand([str(tmp_path / source) for source in sources])
        return [str(each.path.relative_to(tmp_path)) for each in found if each.path]

    assert names(".") == ["a.ndjson", "b.jsonl", "sub/f.jsonl.gz"]
    assert names("*.jsonl") == ["b.jsonl"]
    assert names("**/*.jsonl*") == ["b.jsonl", "sub/f.jsonl.gz"]
    assert names("b.jsonl", ".", "c.jsonl.part") == ["b.jsonl", "a.ndjson", "sub/f.jsonl.gz"]
    assert [path.name for path in waiting(tmp_path)] == ["a.ndjson", "b.jsonl"]
    assert waiting(tmp_path / "none") == []


@pytest.mark.parametrize("source", ["none.jsonl", "*.nothing", "x.txt", "*.txt"])
def test_what_cannot_be_a_source_is_refused_by_name(tmp_path: Path, source: str) -> None:
    """A missing file, a glob without a match, an unknown extension."""
    put(tmp_path, "x.txt")
    with pytest.raises(UsageError) as caught:
        expand([str(tmp_path / source)])
    assert source.replace("*.txt", "x.txt") in str(caught.value)


def test_a_name_with_glob_characters_is_a_name(tmp_path: Path) -> None:
    """What exists is not a pattern."""
    assert [each.name for each in expand([str(put(tmp_path, "a[1].jsonl"))])] == ["a[1].jsonl"]


NOISE = bytes(random.Random(7).randrange(256) for _ in range(3000)).hex()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl.gz", gzip.compress(text(ready("cut", extra=NOISE)))[:-9]),
        ("a.jsonl.gz", gzip.compress(text(ready("cut"))) + b"garbage"),
        ("a.jsonl.gz", b"no gzip"),
        ("a.jsonl.gz", b""),
        ("a.jsonl.zst", zst(text(ready("cut", extra=NOISE)))[:-1]),
        ("a.jsonl.zst", zst(text(ready("cut"))) + zst(text(ready("x")))[:9]),
        ("a.jsonl.zst", b"no zstd"),
        ("a.jsonl.zst", b""),
        ("a.parquet", b"PAR1"),
    ],
)
def test_an_unreadable_file_stays_whole_and_stops_no_other(
    lake: Lake, tmp_path: Path, name: str, content: bytes
) -> None:
    """Nothing of it counts, also what could be read; the others go in; it waits in the inbox, named."""
    inbox = tmp_path / "inbox"
    put(inbox, "b.jsonl", ready())
    (inbox / name).write_bytes(content)
    result = take_inbox(lake, inbox, NOW)
    assert (result.accepted, result.quarantined, result.files) == (1, 0, 1)
    assert len(result.unreadable) == 1 and name in result.unreadable[0] and result.needs_person
    assert [path.name for path in waiting(inbox)] == [name]
    assert identities(lake) == {("/s", "e-1")}


def test_lines_before_the_damage_count_once_the_file_is_mended(lake: Lake, tmp_path: Path) -> None:
    """Chunks read before a file broke off are not half-taken."""
    lines = text(*(ready(f"e-{at}", extra=NOISE) for at in range(60)))
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(lines)[:-20])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources_module, "CHUNK_BYTES", 4096)
        patch.setattr(sources_module, "SMALL_BYTES", 100)
        assert take(lake, path).accepted == 0
        path.write_bytes(gzip.compress(lines))
        assert take(lake, path).accepted == 60


# Parquet


def parquet(folder: Path, table: pa.Table) -> Path:
    """A Parquet file."""
    pq.write_table(table, folder / "p.parquet")
    return folder / "p.parquet"


def flat(*events: dict[str, Any], **columns: Any) -> pa.Table:
    """Events as one column each field."""
    table = pa.Table.from_pylist(
        [{**{k: v for k, v in event.items() if k != "data"}, **event.get("data", {})} for event in events]
    )
    for name, column in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, column) if at >= 0 else table.append_column(name, column)
    return table


INSTANT = 1777802400000000
PARQUETS = {
    "flat": flat(ready()),
    "no version": flat(ready()).drop_columns(["specversion"]),
    "struct": pa.Table.from_pylist([ready()]),
    "json": pa.Table.from_pylist([{**ready(), "data": json.dumps(ready()["data"])}]),
    "micros": flat(ready(), time=pa.array([INSTANT])),
    "utc": flat(ready(), time=pa.array([INSTANT], pa.timestamp("us", "UTC"))),
    "zone": flat(ready(), time=pa.array([INSTANT], pa.timestamp("us", "Asia/Tokyo"))),
    "naive": flat(ready(), time=pa.array([INSTANT // 1000], pa.timestamp("ms"))),
    "nanos": flat(ready(), time=pa.array([INSTANT * 1000 + 999], pa.timestamp("ns", "UTC"))),
    "decimal": flat(ready(), size_bytes=pa.array([5]).cast(pa.decimal128(38, 0))),
}


@pytest.mark.parametrize("shape", PARQUETS)
def test_parquet_is_the_same_event(lake: Lake, tmp_path: Path, shape: str) -> None:
    """Whatever its columns look like, a row is the same event as its line: a repeat, no conflict."""
    take(lake, put(tmp_path, "a.jsonl", ready()))
    result = take(lake, parquet(tmp_path, PARQUETS[shape]))
    assert (result.duplicates, result.quarantined, result.lines) == (1, 0, 1)


@pytest.mark.parametrize(
    ("reason", "table"),
    [
        ("wrong_type", flat(ready(), size_bytes=pa.array([5.0]))),
        ("wrong_type", flat(ready(), size_bytes=pa.array(["5"]))),
        ("wrong_type", flat(ready(), id=pa.array([5]))),
        ("negative_size", flat(ready(size=-5))),
        ("out_of_range", flat(ready(), size_bytes=pa.array([2**63], pa.uint64()))),
        ("missing_field", flat(ready()).drop_columns(["region"])),
        ("missing_field", flat(ready(source=None))),
        ("missing_field", pa.table({"anything": [1]})),
        ("bad_time", flat(ready(), time=pa.array([1777802400]))),
        ("bad_time", flat(ready(), time=pa.array([INSTANT * 1000]))),
        ("bad_time", flat(ready(time="yesterday"))),
        ("duplicate_key", pa.Table.from_pylist([{**ready(), "data": '{"size_bytes":1,"size_bytes":2}'}])),
    ],
)
def test_parquet_rows_are_checked_like_lines(lake: Lake, tmp_path: Path, reason: str, table: pa.Table) -> None:
    """A bad row is quarantined with its number and a canonical text, once."""
    path = parquet(tmp_path, pa.concat_tables([table, table.slice(0, 0)]))
    assert take(lake, path).reasons == {reason: 1}
    assert take(lake, path).batch is None
    ((file, line, raw),) = rows(lake, "SELECT file, line, raw FROM quarantine")
    assert (file, line) == ("p.parquet", 1)
    assert list(json.loads(raw)) == sorted(json.loads(raw))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([date(2026, 5, 3)]), "a date"),
        (pa.array([b"/compute"]), "bytes"),
        (pa.array([5], pa.time64("us")), "a time of day"),
        (pa.array([5], pa.duration("us")), "a duration"),
        (pa.array([1.5]), "a number with a fraction or an exponent"),
    ],
)
def test_what_only_columns_know_is_called_by_its_name(lake: Lake, tmp_path: Path, values: pa.Array, kind: str) -> None:
    result = take(lake, parquet(tmp_path, flat(ready(), time=values)))
    assert result.named == [f"p.parquet, line 1: wrong_type: time is {kind}, not a text."]


def test_the_lake_can_be_read_back_into_another(lake: Lake, tmp_path: Path) -> None:
    """An event file of one lake is a source for another."""
    gone = {key: value for key, value in ready("e-2", type="vm.deleted").items() if key != "data"}
    take(lake, put(tmp_path, "a.jsonl", ready(), gone))
    other = Lake(tmp_path / "other")
    assert take(other, lake.root / "events/00000001.parquet").accepted == 2
    columns = "source, id, type, subject, time, account_id, size_bytes, name"
    query = f"SELECT {columns} FROM events ORDER BY id"
    assert rows(lake, query) == rows(other, query)


# The inbox


def test_names_that_are_no_text(lake: Lake, tmp_path: Path) -> None:
    """Bad lines are told under names that can be printed; every file is moved, also where its name cannot be kept."""
    inbox = tmp_path / "inbox"
    longest = "a" * 249 + ".jsonl"
    names = [b"\xff\xfe.jsonl", b"red\x1b[31m\n.jsonl", "r\u202etxt.jsonl".encode(), b"\xff" * 240 + b".jsonl.gz"]
    put(inbox / "done", longest, ready("e-0"))
    put(inbox, longest, "nope")
    for number, name in enumerate(names):
        content = text(ready(f"e-{number}"), f"nope {number}")
        path = os.fsencode(inbox) + b"/" + name
        Path(os.fsdecode(path)).write_bytes(gzip.compress(content) if name.endswith(b".gz") else content)
    result = take_inbox(lake, inbox, NOW)
    assert (result.accepted, result.quarantined, result.unreadable) == (4, 5, [])
    told = {name for (name,) in rows(lake, "SELECT file FROM quarantine")}
    assert told == {
        longest,
        "\\xff\\xfe.jsonl",
        "red\\x1b[31m\\n.jsonl",
        "r\\u202etxt.jsonl",
        "\\xff" * 240 + ".jsonl.gz",
    }
    assert waiting(inbox) == []
    done = sorted(path.name for path in (inbox / "done").iterdir())
    assert len(done) == 6 and all(name.isprintable() and len(name.encode()) <= 255 for name in done)
    assert "a" * 247 + ".2.jsonl" in done and "\\xff\\xfe.jsonl" in done
    assert take_inbox(lake, inbox, NOW + 1).batch is None


def test_a_link_in_the_inbox_is_not_followed(lake: Lake, tmp_path: Path) -> None:
    """Who may write to the inbox alone does not have other files read; what is no file at all hinders nobody."""
    inbox = tmp_path / "inbox"
    secret = put(tmp_path, "secret.jsonl", "the key")
    put(inbox, "a.jsonl", ready("e-1"))
    (inbox / "b.jsonl").symlink_to(secret)
    (inbox / "c.jsonl").symlink_to("/dev/zero")
    (inbox / "d.jsonl").symlink_to(tmp_path / "nowhere")
    os.mkfifo(inbox / "e.jsonl")
    (inbox / "f.jsonl").mkdir()
    result = take_inbox(lake, inbox, NOW)
    assert (result.accepted, result.quarantined) == (1, 0)
    assert [line.partition(": ")[0] for line in result.unreadable] == [str(inbox / "b.jsonl")]
    assert "it is a link" in result.unreadable[0] and secret.exists()
    assert take(lake, inbox / "b.jsonl", now=NOW + 1).quarantined == 1


def test_the_inbox_is_emptied_into_done_without_overwriting(lake: Lake, tmp_path: Path) -> None:
    """A name that is taken gets a number before its extension; what is no event file stays and is named."""
    inbox = tmp_path / "inbox"
    for at in range(3):
        put(inbox, "a.jsonl", ready(f"e-{at}"))
        put(inbox, "b.jsonl.part", ready("part"))
        put(inbox, "notes.txt")
        result = take_inbox(lake, inbox, NOW)
        assert (result.accepted, len(result.moved), result.ignored) == (1, 1, ["notes.txt"])
    assert sorted(path.name for path in (inbox / "done").iterdir()) == ["a.2.jsonl", "a.3.jsonl", "a.jsonl"]
    assert b"e-1" in (inbox / "done/a.2.jsonl").read_bytes()
    assert sorted(path.name for path in inbox.iterdir()) == ["b.jsonl.part", "done", "notes.txt"]
    put(inbox, "a.jsonl", ready("e-0"))
    put(inbox / "monday.jsonl", "b.jsonl", ready("e-9"))
    result = take_inbox(lake, inbox, NOW)
    assert (result.batch, result.ignored, waiting(inbox)) == (None, ["monday.jsonl/", "notes.txt"], [])
    assert [line.partition(": no file")[0] for line in result.left()] == [
        "not taken: monday.jsonl/",
        "not taken: notes.txt",
    ]


def test_a_file_replaced_while_it_was_read_waits_for_the_next_run(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not read is not moved away."""
    inbox = tmp_path / "inbox"
    put(inbox, "a.jsonl", ready())
    from metering.events import inbox as inbox_module

    def replaced(*args: Any, **options: Any) -> IngestResult:
        result = ingest(*args, **options)
        put(inbox, "new.tmp", ready("e-2")).rename(inbox / "a.jsonl")
        return result

    monkeypatch.setattr(inbox_module, "ingest", replaced)
    assert take_inbox(lake, inbox, NOW).moved == []
    monkeypatch.undo()
    assert take_inbox(lake, inbox, NOW).accepted == 1
    assert identities(lake) == {("/s", "e-1"), ("/s", "e-2")}


# Kills


POINTS = ("lake.before_commit", "lake.after_commit", "inbox.before_move", "inbox.during_move")


@pytest.mark.parametrize(
    "points", [POINTS, *(pytest.param((point,), marks=pytest.mark.soak) for point in POINTS)], ids="-".join
)
@pytest.mark.parametrize("history", [False, True])
def test_killed_anywhere_and_run_again(lake: Lake, tmp_path: Path, points: tuple[str, ...], history: bool) -> None:
    """The lake is as before or as after; the next run ends as an undisturbed one does, with all files moved."""
    inbox = tmp_path / "inbox"
    files = {"a.jsonl": (ready(), "nope"), "b.jsonl": (ready("e-2"), ready(size=9)), "c.jsonl": (ready("e-3"),)}
    undisturbed = Lake(tmp_path / "undisturbed")
    for each in (undisturbed, lake):
        if history:
            take(each, put(tmp_path, "old.jsonl", ready("e-3"), "nope"), now=NOW - 5)
        before = state(each)
        for name, events in files.items():
            put(inbox, name, *events)
        if each is undisturbed:
            take_inbox(each, inbox, NOW)
    after = state(undisturbed)
    for point in points:
        assert run_until(point, take_inbox, lake, inbox, NOW) == KILLED, point
        assert state(lake) == (before if point == "lake.before_commit" else after), point
        assert len(waiting(inbox)) == 3 - (point == "inbox.during_move"), point
    take_inbox(lake, inbox, NOW)
    assert state(lake) == after
    assert waiting(inbox) == [] and not (lake.root / SCRATCH).exists()
    assert sum(len(list((inbox / "done").glob(f"{name[0]}*.jsonl"))) for name in files) == 6


def test_a_full_disk_is_an_error_that_leaves_the_lake(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not mistaken for an unreadable file; nothing is half-done."""
    take(lake, put(tmp_path, "a.jsonl", ready()))
    before = state(lake)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(MeteringError, match="No space left"):
        take(lake, put(tmp_path, "b.jsonl", ready("e-2")))
    monkeypatch.undo()
    assert state(lake) == before


def test_an_event_file_that_is_gone_is_an_error(lake: Lake, tmp_path: Path) -> None:
    """Without the history nobody can tell a repeat: nothing is taken."""
    take(lake, put(tmp_path, "a.jsonl", ready()))
    (lake.root / "events/00000001.parquet").unlink()
    with pytest.raises(MeteringError):
        take(lake, put(tmp_path, "b.jsonl", ready("e-2")))


# Any order, any split

POOL = [
    ready("e-1"),
    ready("e-2"),
    ready("e-2", source="/t"),
    ready("e-3", type="snapshot.deleted"),
    ready("e-4", type="event.retracted", data={"retracted_source": "/s", "retracted_id": "e-1"}),
    ready("e-1", size=6),
    ready("e-5", size=-1),
    "nope",
]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.lists(st.sampled_from(range(len(POOL))), min_size=1, max_size=8), min_size=1, max_size=4))
def test_any_split_into_batches_gives_the_same_identities(batches: list[list[int]]) -> None:
    """The identities, and which of two conflicting events stands, follow from the stream, not from its cuts."""
    stream = [at for batch in batches for at in batch]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = [
            take(one := Lake(folder / "one"), put(folder, f"{number}.jsonl", *(POOL[at] for at in batch)))
            for number, batch in enumerate(batches)
        ]
        once = take(whole := Lake(folder / "whole"), put(folder, "all.jsonl", *(POOL[at] for at in stream)))
        shuffled = put(folder, "z.jsonl", *(POOL[at] for at in sorted(stream, reverse=True)))
        take(other := Lake(folder / "other"), shuffled)
        expected = {(POOL[at]["source"], POOL[at]["id"]) for at in stream if at < 6}  # type: ignore[index]
        assert identities(one) == identities(whole) == identities(other) == expected
        columns = "SELECT source, id, type, size_bytes FROM events ORDER BY ALL"
        assert rows(one, columns) == rows(whole, columns)
        assert sum(result.accepted for result in results) == once.accepted == len(expected)


def test_the_latest_event_of_each_source(lake: Lake, tmp_path: Path) -> None:
    """A close asks whether a source has reported past the month's end."""
    late = ready("e-2", time="2026-06-01T00:00:00Z")
    take(lake, put(tmp_path, "a.jsonl", ready(), late, ready("e-1", source="/t")))
    with connect() as con:
        lake.attach(con)
        define(con, "events", "latest_by_source")
        found = con.execute("FROM latest_by_source ORDER BY source").fetchall()
    assert found == [("/s", 1780272000000000), ("/t", INSTANT)]


def every_line_is_somewhere(lines: Iterable[bytes], lake: Lake, result: IngestResult) -> None:
    """No line is lost: each is an event, a repeat of one, or in the quarantine."""
    quarantined = rows(lake, "SELECT count(*) FROM quarantine")[0][0]
    filled = [line for line in lines if line.strip()]
    assert result.accepted + result.duplicates + quarantined == len(filled)


def test_no_line_of_the_case_table_is_lost(lake: Lake, tmp_path: Path) -> None:
    """Accepted, repeated and quarantined lines add up to the lines that came."""
    from test_events_lines import CASES

    lines = list(dict.fromkeys(line for _, _, line in CASES))
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    every_line_is_somewhere(lines, lake, take(lake, tmp_path / "a.jsonl"))
