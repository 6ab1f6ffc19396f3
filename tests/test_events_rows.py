"""Rows of Parquet by columns: what is said of them is what is said of them row by row, and of the same lines."""

from __future__ import annotations

import json
import math
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_events_ingest import identities, put, raws, rows, take

from metering.events import rows as rows_module
from metering.events.lines import Checked
from metering.events.rows import check_rows
from metering.lake import Lake
from metering.values import format_instant

TEXTS = st.sampled_from(
    [*("a", "b", "vm", "e-1", "é ☃", 'quo"te', "back\\slash", "tab\t", "\x00", "\x7f", "", "x" * 256), None]
)
KINDS = st.sampled_from(
    ["snapshot.ready", "io.x.snapshot.ready", "snapshot.deleted", "event.retracted", "snapshot.resized", "no", None]
)
TIMES = st.sampled_from(["2026-05-03T10:00:00Z", "2026-05-03T10:00:00.25+02:00", "yesterday", None])
SIZES = st.sampled_from([0, 5, 2**63 - 1, -1, None])
DATA = {
    **dict.fromkeys(
        ("account_id", "project_id", "region", "resource_id", "name", "retracted_source", "retracted_id"), TEXTS
    ),
    "resource_type": st.sampled_from(["vm", "volume", "disk", None]),
    "size_bytes": SIZES,
}
INSTANTS = (1777802400_000000, 1777802400_250000, 1777802400_000001)


GOOD = {"type": "snapshot.ready", "resource_type": "vm", "size_bytes": 5, "specversion": "1.0"}
"""What a field holds where nothing is wrong with it; the others hold their own names."""
DELETED = {
    "specversion": "1.0",
    "id": "e",
    "source": "/s",
    "type": "snapshot.deleted",
    "subject": "s",
    "time": "2026-05-03T10:00:00Z",
}
"""A usual event."""


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """A few rows in one of the forms that files have; in each column at most some cells are odd."""
    count = draw(st.integers(1, 6))

    def some(name: str, values: st.SearchStrategy[Any], where: str = "") -> list[Any]:
        odd = draw(st.sets(st.integers(0, count - 1), max_size=2)) if draw(st.integers(0, 3)) == 3 else set()
        return [draw(values) if at in odd else GOOD.get(name, name + where) for at in range(count)]

    def every(*values: Any) -> list[Any]:
        return draw(st.lists(st.sampled_from(values), min_size=count, max_size=count))

    texts = draw(st.sampled_from([pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]))
    columns = {name: pa.array(some(name, TEXTS), texts) for name in ("id", "source", "subject")}
    columns["type"] = pa.array(some("type", KINDS), texts)
    columns["time"] = draw(
        st.sampled_from(
            [
                pa.array(every("2026-05-03T10:00:00Z", "2026-05-03T10:00:00.25+02:00"), pa.string()),
                pa.array(every("2026-05-03T10:00:00Z", "yesterday", None), pa.string()),
                pa.array(every(*INSTANTS), pa.int64()),
                pa.array(every(*INSTANTS, None), pa.int64()),
                pa.array(every(*INSTANTS, 5), pa.int64()),
                pa.array(every(*INSTANTS), pa.timestamp("us", "UTC")),
                pa.array(every(1, -1, 1777802400, 2**60), pa.timestamp("s")),
                pa.array(every(1, -1, 1777802400_000000_999, None), pa.timestamp("ns", "Asia/Tokyo")),
            ]
        )
    )
    if draw(st.booleans()):
        columns["specversion"] = pa.array(some("specversion", st.sampled_from(["1.0", "2.0", None])), pa.string())
    size = draw(st.sampled_from([pa.int64(), pa.int64(), pa.bool_(), pa.decimal128(38, 0), pa.float64()]))

    def filled(name: str, where: str) -> pa.Array:
        if name == "size_bytes":
            return pa.array(some(name, SIZES) if size == pa.int64() else every(0, 1, None), pa.int64()).cast(size)
        return pa.array(some(name, DATA[name], where), pa.string())

    inside = set(DATA) - draw(st.sets(st.sampled_from(sorted(DATA)), max_size=3)) if draw(st.booleans()) else set()
    if inside or draw(st.integers(0, 5)) == 5:
        fields = {name: filled(name, " in data") for name in sorted(inside)}
        if draw(st.booleans()):
            fields["more"] = pa.array([{"x": value} for value in every(0, None, 7)], pa.struct([("x", pa.int64())]))
        absent = pa.array(every(False, False, False, True), pa.bool_())
        columns["data"] = (
            pa.StructArray.from_arrays(list(fields.values()), list(fields), mask=absent) if fields else absent
        )
    outside = set(DATA) - inside | draw(st.sets(st.sampled_from(sorted(DATA)), max_size=3))
    columns |= {name: filled(name, " beside") for name in sorted(outside) if draw(st.integers(0, 9))}
    if draw(st.booleans()):
        columns["a"] = pa.array(every(None, 0.5, math.inf, math.nan), pa.float64())
    return pa.table(columns)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_instants_are_written_as_everywhere(unit: str) -> None:
    """With 0, 3 or 6 digits of the second, finer ones cut; beyond the year 9999 as a number."""
    a_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    counts = [0, -1, a_second, 1777802400 * a_second, 1777802400 * a_second + a_second // 4, 1777802400 * a_second + 1]
    texts = rows_module._instant_texts(pa.array([*counts, None]), *rows_module._MICROS[unit]).to_pylist()
    assert texts == [*(format_instant(count * 10**6 // a_second) for count in counts), None]
    if unit in ("s", "ms"):
        assert rows_module._instant_texts(pa.array([2**53]), *rows_module._MICROS[unit]).to_pylist() == [
            str(2**53 * 10**6 // a_second)
        ]


def said(checked: Checked) -> tuple[Any, ...]:
    """All that came of a check, by line."""
    events = sorted((str(row["line"]), json.dumps(row)) for run in checked.runs for row in run.to_pylist())
    faults = sorted((row["line"], row["reason"], row["message"], row["raw"]) for row in checked.faults.to_pylist())
    return events, faults, checked.text, checked.starts.tolist()


@settings(deadline=None)
@given(tables())
def test_by_columns_as_row_by_row(table: pa.Table) -> None:
    """The same events, faults in the same words, and the same kept lines."""
    assert said(check_rows(table)) == said(rows_module._row_by_row(table))


def test_usual_rows_are_not_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "_row_by_row", lambda _: pytest.fail("one by one"))
    data = dict.fromkeys(DATA, "vm") | {"size_bytes": 5}
    ready = {**DELETED, "type": "snapshot.ready"}
    for event in ({**DELETED, "time": INSTANTS[0]}, {**ready, "data": data}, {**ready, **data}):
        assert [len(run) for run in check_rows(pa.Table.from_pylist([event] * 3)).runs] == [3]


EVENTS = st.fixed_dictionaries(
    {"specversion": st.just("1.0"), "type": KINDS.filter(bool)},
    optional={
        **dict.fromkeys(("id", "source", "subject"), TEXTS.filter(lambda text: text is not None)),
        "time": TIMES.filter(bool),
        "data": st.fixed_dictionaries(
            {}, optional={name: values.filter(lambda each: each is not None) for name, values in DATA.items()}
        ),
    },
)


@settings(deadline=None, max_examples=30)
@given(st.lists(EVENTS, min_size=1, max_size=12))
def test_lines_and_rows_make_the_same_lake(events: list[dict[str, Any]]) -> None:
    """The same identities, repeats, conflicts, reasons and numbers of lines."""
    folder = Path(mkdtemp())
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("specversion", "type", "id", "source", "subject", "time")),
            ("data", pa.struct([(name, pa.int64() if name == "size_bytes" else pa.string()) for name in DATA])),
        ]
    )
    pq.write_table(pa.Table.from_pylist(events, schema), folder / "a.parquet")
    one, other = Lake(folder / "one"), Lake(folder / "other")
    by_line, by_row = take(one, put(folder, "a.jsonl", *events)), take(other, folder / "a.parquet")
    assert (by_line.accepted, by_line.duplicates, by_line.reasons, by_line.lines) == (
        *(by_row.accepted, by_row.duplicates, by_row.reasons, by_row.lines),
    )
    assert identities(one) == identities(other)
    bad = "SELECT line, reason, message FROM quarantine ORDER BY line"
    named = [
        [(line, reason, message.replace("a.parquet", "a.jsonl")) for line, reason, message in rows(lake, bad)]
        for lake in (one, other)
    ]
    assert named[0] == named[1]
    assert len(raws(one)) == len(raws(other))


def test_a_file_that_breaks_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that cannot be read come after others that were taken: none of the file counts, its neighbour does."""
    monkeypatch.setattr(rows_module, "ROWS", 10)
    events = [{**DELETED, "id": f"e-{number}"} for number in range(100)]
    good = pa.Table.from_pylist(events)
    texts = pa.Array.from_buffers(
        pa.string(),
        100,
        [*pa.array([f"e-{n:03}" for n in range(100)]).buffers()[:2], pa.py_buffer(b"e-1\xff2" + b"e" * 495)],
    )
    bad = good.set_column(
        good.schema.get_field_index("id"), "id", pa.concat_arrays([good["id"].combine_chunks()[:50], texts[:50]])
    )
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(bad, folder / "b.parquet")
    pq.write_table(good.slice(0, 30), folder / "c.parquet")
    lake = Lake(tmp_path / "lake")
    result = take(lake, folder)
    assert (result.accepted, result.files, result.lines) == (30, 1, 30)
    assert len(result.unreadable) == 1 and "b.parquet: " in result.unreadable[0]
    assert len(identities(lake)) == 30
