"""A line is an event or has one reason not to be one, whichever way it is read."""

from __future__ import annotations

import json
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.events import lines as lines_module
from metering.events.instants import instants
from metering.events.judge import REASONS, Accepted, Fault, judge
from metering.events.lines import Checked, check_lines
from metering.events.strict_json import parse
from metering.values import format_instant, parse_instant

GOOD = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/s",
    "type": "snapshot.ready",
    "subject": "snap-1",
    "time": "2026-05-03T10:00:00.250Z",
    "data": {
        "account_id": "acc-1",
        "project_id": "prj-1",
        "region": "us-east",
        "resource_type": "vm",
        "resource_id": "vm-9",
        "name": "n",
        "size_bytes": 5,
    },
}


def load_cases() -> list[tuple[str, str, bytes]]:
    """The case table."""
    text = (Path(__file__).parent / "cases" / "events.tsv").read_text("utf-8")
    rows = [row.split("\t") for row in text.split("\n") if row and not row.startswith("#")]
    return [(want, why, _bytes(line)) for want, why, line in rows]


def _bytes(line: str) -> bytes:
    line = re.sub(r"<([^<>])\*(\d+)>", lambda run: run[1] * int(run[2]), line)
    parts = re.split(r"<0x(..)>", line)
    return b"".join(bytes([int(part, 16)]) if at % 2 else part.encode() for at, part in enumerate(parts))


CASES = load_cases()


def exact(raw: bytes) -> Accepted | str:
    """What the exact way alone says of a line."""
    try:
        return judge(parse(raw))
    except Fault as fault:
        return fault.reason


def events(checked: Checked) -> list[dict[str, Any]]:
    """The accepted events of a chunk."""
    return [row for run in checked.runs for row in run.to_pylist()]


def outcome(checked: Checked) -> dict[int, Accepted | str]:
    """What became of each line of a chunk, by number."""
    found: dict[int, Accepted | str] = {row["line"]: row["reason"] for row in checked.faults.to_pylist()}
    for run in checked.runs:
        kinds, times = run["type"].to_pylist(), run["time"].to_pylist()
        assert len(set(kinds)) == 1 and times == sorted(times), "a run is of one type and by time"
    for row in events(checked):
        number = row.pop("line")
        assert number not in found
        found[number] = Accepted(**row)
    return found


@pytest.mark.parametrize(("want", "why", "line"), CASES, ids=[f"{want[:14]}-{why}" for want, why, _ in CASES])
def test_a_line_of_the_table(want: str, why: str, line: bytes) -> None:
    """Each line of the table comes out as it says, and its bytes are kept."""
    checked = check_lines(line)
    rows = events(checked) + checked.faults.to_pylist()
    assert len(rows) == 1 and rows[0]["line"] == 0 and checked.lines == 1
    row = rows[0]
    assert checked.raw(0) == line == row.get("raw", line)
    word, _, columns = want.partition(" ")
    assert row.get("reason", "accepted") == word
    if "reason" in row:
        assert row["reason"] in REASONS and row["message"].endswith(".") and len(row["message"]) < 300
    for name, value in json.loads(columns or "{}").items():
        assert row[name] == value and type(row[name]) is type(value)


def test_the_table_covers_every_reason() -> None:
    """No reason code is without a case; `conflict` alone is not a matter of one line."""
    assert {want for want, _, _ in CASES if want in REASONS} == set(REASONS) - {"conflict"}


def test_one_bad_line_does_not_touch_its_neighbours() -> None:
    """All lines of the table in one chunk come out as each alone does."""
    chunk = b"\n".join(line for _, _, line in CASES)
    found = outcome(check_lines(chunk))
    assert [found[at] for at in sorted(found)] == [exact(line) for _, _, line in CASES]


def test_lines_are_counted_with_the_blank_ones() -> None:
    """Lines count from 1, blank ones too, whatever their line ends; the last needs none."""
    good = json.dumps(GOOD).encode()
    checked = check_lines(b"\n \t\r\n" + good + b"\r\nnope\r\n\n\n" + good)
    assert sorted(row["line"] for row in events(checked)) == [2, 6]
    assert checked.faults.to_pylist()[0]["line"] == 3
    assert checked.faults.to_pylist()[0]["raw"] == b"nope"
    assert {checked.raw(row["line"]) for row in events(checked)} == {good}
    assert checked.lines == 7


def test_only_a_line_feed_ends_a_line() -> None:
    """What else looks like a line end in Unicode does not split a text."""
    line = json.dumps({**GOOD, "data": {**GOOD["data"], "name": "a\u2028b"}}, ensure_ascii=False).encode()
    assert [row["name"] for row in events(check_lines(line))] == ["a\u2028b"]


def test_good_lines_take_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual shapes never reach the slow parser; an escape does."""
    reached: list[bytes] = []
    monkeypatch.setattr(lines_module, "parse", lambda raw: reached.append(raw) or parse(raw))
    usual: list[dict[str, Any]] = [
        GOOD,
        {**GOOD, "datacontenttype": "application/json", "extra": {"a": [1, {"b": 2}]}},
        {**GOOD, "type": "com.acme.snapshot.deleted"},
        {**GOOD, "type": "snapshot.resized", "data": {"size_bytes": 1}},
        {key: value for key, value in GOOD.items() if key != "data"} | {"type": "vm.deleted"},
    ]
    for event in usual:
        for separators in ((",", ":"), (", ", ": ")):
            check_lines(json.dumps(event, separators=separators).encode() + b"\r\n")
    assert reached == []
    check_lines(json.dumps({**GOOD, "id": "é"}).encode())
    assert len(reached) == 1


# Lines made by damage: every edit that a producer's bug may make, in the hope that the two ways differ.
_PIECES = [
    b'"id":"e-1"',
    b'"id" :"x"',
    b'"x":{"id":1,"id":2}',
    b'"x":[{}]',
    b'"data":null',
    b'"size_bytes":5',
    b'"name":null',
]
_JUNK = [b"\\", b"\t", b"\r", b"\xc2\x85", b"\xff", b'":', b"null", *(bytes([char]) for char in b'": {},0-e.')]


@st.composite
def damaged_lines(draw: st.DrawFn) -> bytes:
    """A good line with a few random cuts, insertions and repetitions."""
    base = draw(st.sampled_from([line for _, _, line in CASES if len(line) < 2000]))
    line = bytearray(base)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(line)))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            del line[at : at + draw(st.integers(1, 8))]
        elif kind == 1:
            line[at:at] = draw(st.sampled_from(_JUNK))
        elif kind == 2:
            comma = line.find(b",", at)
            if comma >= 0:
                line[comma:comma] = b"," + draw(st.sampled_from(_PIECES))
        else:
            start = draw(st.integers(0, len(line)))
            line[at:at] = line[start : start + draw(st.integers(1, 40))]
    return bytes(line).replace(b"\n", b"")


@settings(max_examples=150, deadline=None)
@given(st.lists(damaged_lines(), min_size=1, max_size=8), st.sampled_from([b"\n", b"\r\n"]))
def test_both_ways_agree(damaged: list[bytes], end: bytes) -> None:
    """The short way and the exact way say the same of any line, in any company."""
    chunk = end.join(damaged)
    found = outcome(check_lines(chunk))
    raws = [raw.removesuffix(b"\r") for raw in chunk.split(b"\n")]
    expected = {number: exact(raw) for number, raw in enumerate(raws) if raw.strip()}
    assert found == expected


_SLIPS = st.sampled_from(["", "0", "9", "Z", "+01:00", "-00:00", ".", ".1", "x", " ", "60", "٣"])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-(10**15), 3 * 10**15), st.integers(0, 30), _SLIPS), max_size=10))
def test_many_times_at_once_are_what_each_is_alone(parts: list[tuple[int, int, str]]) -> None:
    """The vectorised reader never gives another instant than the exact one, and knows the usual shapes."""
    texts = [format_instant(instant) for instant, _, _ in parts]
    assert instants(texts)[0].tolist() == [instant for instant, _, _ in parts]
    assert instants(texts)[1].all()
    slips = zip(texts, parts, strict=True)
    texts += [text[:at] + slip + text[at + len(slip) :] for text, (_, at, slip) in slips]
    values, known = instants(texts)
    for text, value, sure in zip(texts, values.tolist(), known.tolist(), strict=True):
        if sure:
            assert parse_instant(text) == value


def test_calendar_days_are_right_for_a_thousand_years() -> None:
    """Each day from 1900 to 2999 is the day that the exact parser says."""
    days = [date(1900, 1, 1) + timedelta(days) for days in range(0, 401_767, 13)]
    texts = [f"{day}T12:34:56Z" for day in days]
    values, known = instants(texts)
    assert known.all()
    assert values.tolist() == [parse_instant(text) for text in texts]
