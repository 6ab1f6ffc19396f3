"""Lines read together by their shape come out as each alone does; most of what producers write is read so."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_events_lines import CASES, GOOD, damaged_lines, exact, outcome

from metering.events import lines as lines_module
from metering.events.judge import Accepted, Fault, judge
from metering.events.lines import check_lines
from metering.events.shapes import learn
from metering.events.strict_json import parse

ACCEPTED = [line for want, _, line in CASES if want.startswith("accepted")]


def of_all(chunk: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk comes out as its lines do alone, though a single line is enough to learn a shape and a form from."""
    monkeypatch.setattr(lines_module, "ALIKE", 1)
    monkeypatch.setattr(lines_module, "COMMON", 1)
    monkeypatch.setattr(lines_module, "_forms", {})
    monkeypatch.setattr(lines_module, "_TRIES", 1000)
    raws = [raw.removesuffix(b"\r") for raw in chunk.split(b"\n")]
    wanted = {number: exact(raw) for number, raw in enumerate(raws) if raw.strip()}
    assert outcome(check_lines(chunk)) == wanted
    assert outcome(check_lines(chunk)) == wanted, "by the forms that the first time left"
    assert outcome(check_lines(chunk + b"\n")) == wanted


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(damaged_lines(), min_size=1, max_size=8),
    st.lists(st.sampled_from(ACCEPTED), max_size=4),
    st.sampled_from([b"\n", b"\r\n"]),
)
def test_damaged_lines_among_good_ones(damaged: list[bytes], good: list[bytes], end: bytes) -> None:
    """Shapes learned from good lines take nothing that the exact way refuses, nor anything in other words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "_shapes", {})
        of_all(end.join([*good, *damaged, *good]), patch)


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["", "[]", "data", "size_bytes", ":", "}}", "x" * 255, "x" * 256, "é" * 200, "\x80", "\x7f", "ÿ", "1", "vm"]
)
_NUMBERS = st.sampled_from([0, 5, -1, -0.0, 1.5, 10**17, 10**18, 2**63 - 1, 2**63, True, None, "5"])
_EXTRAS = st.dictionaries(_TEXTS, st.one_of(_TEXTS, _NUMBERS, st.lists(_NUMBERS, max_size=2)), max_size=2)


@st.composite
def similar_lines(draw: st.DrawFn) -> bytes:
    """Lines of one serializer whose values differ in every way, also in ways that are not allowed."""
    events = []
    for _ in range(draw(st.integers(2, 6))):
        event: dict[str, Any] = {**GOOD, "data": dict(GOOD["data"]), **draw(_EXTRAS)}  # type: ignore[call-overload]
        for key in draw(st.lists(st.sampled_from(["id", "source", "subject", "time"]), max_size=2)):
            event[key] = draw(_TEXTS)
        if isinstance(event["data"], dict):
            event["data"].update(draw(_EXTRAS))
            event["data"]["size_bytes"] = draw(_NUMBERS)
            event["data"]["resource_type"] = draw(st.sampled_from(["vm", "volume", "vmx", "xm", ""]))
        event["type"] = draw(st.sampled_from(["snapshot.ready", "snapshot.deleted", "snapshot.resized"]))
        events.append(event)
    plain = draw(st.booleans())
    return b"\n".join(json.dumps(event, ensure_ascii=plain).encode() for event in events)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(similar_lines())
def test_values_of_every_kind_in_one_shape(chunk: bytes) -> None:
    """A value that the exact way refuses is refused, in whatever company."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "_shapes", {})
        of_all(chunk, patch)


def test_a_table_of_a_thousand_lines_is_read_by_its_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a shape is known, no line of it is read alone."""
    monkeypatch.setattr(lines_module, "_shapes", {})
    kinds = ("snapshot.ready", "snapshot.deleted", "snapshot.resized", "com.acme.vm.deleted", "event.retracted")
    retraction = {"retracted_source": "/s", "retracted_id": "x"}
    events = [
        {**GOOD, "id": f"e-{at}", "type": kind, "data": retraction if kind == "event.retracted" else GOOD["data"]}
        for at in range(1000)
        for kind in kinds
    ]
    chunk = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    read: list[bytes] = []
    monkeypatch.setattr(lines_module, "_value", lambda raw, usual: read.append(raw) or parse(raw))
    found = outcome(check_lines(chunk))
    assert read == []
    assert [found[at] for at in range(len(events))] == [judge(event) for event in events]


def test_a_key_that_names_an_array_does_not_hide_a_key() -> None:
    """What looks like a path of another place is none: keys are never taken for values."""
    line = json.dumps({**GOOD, "[]": 1, "": {"": "x", "y": "z"}, "data ": ["q"]}, separators=(",", ":")).encode()
    event = judge(parse(line))
    shape = learn(line, event)
    assert shape is not None
    assert b'"y":"' in b"|".join(shape.texts) and b'"[]":' in b"|".join(shape.texts)


def test_the_short_way_never_learns_from_what_it_cannot_fill() -> None:
    """A size that is no plain number leaves the line to the exact way."""
    line = json.dumps(GOOD).replace('"size_bytes": 5', '"size_bytes": -0').encode()
    event = judge(parse(line))
    assert isinstance(event, Accepted) and event.size_bytes == 0
    assert learn(line, event) is None


@pytest.mark.parametrize("line", [line for want, _, line in CASES if not want.startswith("accepted")][:40])
def test_bad_lines_stay_bad_among_their_like(line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred of the same bad line are a hundred faults."""
    if b"\n" in line or not line.strip():
        return
    found = outcome(check_lines(b"\n".join([line] * 100)))
    with pytest.raises(Fault) as fault:
        judge(parse(line))
    assert set(found.values()) == {fault.value.reason} and len(found) == 100


def test_lines_as_long_as_others_are_read_by_their_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once their forms are known, only what differs from them is looked at closely, and comes out as ever."""
    monkeypatch.setattr(lines_module, "_shapes", {})
    monkeypatch.setattr(lines_module, "_forms", {})
    events = [{**GOOD, "id": f"e-{at}", "source": f"/{'long' * (at % 3)}"} for at in range(1000, 2000)]
    lines = [json.dumps(event).encode() for event in events]
    check_lines(b"\n".join(lines))
    # As long as the others: a quotation mark inside a value, and a letter where a digit was.
    damaged = [lines[1].replace(b"e-1001", b'e-1"01'), lines[2].replace(b'bytes": 5', b'bytes": x')]
    looked: list[bytes] = []
    look = lines_module._look
    monkeypatch.setattr(lines_module, "_look", lambda text: looked.append(text) or look(text))
    found = outcome(check_lines(b"\n".join([*lines, *damaged]) + b"\n"))
    assert looked == [b"\n".join(damaged) + b"\n"]
    assert [found[at] for at in range(1002)] == [*map(judge, events), "malformed_json", "malformed_json"]
