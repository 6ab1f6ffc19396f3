"""The benchmark measures what it says: its engines answer as the reference does, its lakes are what they claim."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reference
from bench.child import Failed, run
from bench.history import DELETED, LASTING, NEW, READY, TYPES, Events, History, join
from bench.lakes import make_lake, rows
from bench.lines import with_redeliveries
from bench.month import PEERS
from bench.question import Question, hash_of

from metering.lake import Lake

HISTORY = History(40_000, seed=3)
HARD = (None, "event.retracted", "snapshot.deleted", "snapshot.resized", "vm.deleted")
"""Types without which the answer must be another."""
FIELDS = tuple(reference.Event.__dataclass_fields__)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small lake with every kind of event."""
    root = tmp_path_factory.mktemp("lake")
    make_lake(root, HISTORY, batches=5)
    return root


def events_of(table: pa.Table) -> list[reference.Event]:
    return [reference.Event(**row) for row in table.select(list(FIELDS)).to_pylist()]


def by_reference(events: list[reference.Event], start: int, end: int) -> list[tuple[Any, ...]]:
    """Usage per account, SKU and region, snapshot by snapshot: each with what concerns it."""
    of_subject = defaultdict(list)
    for event in events:
        of_subject[event.subject].append(event)
    retractions = [event for event in events if event.type == "event.retracted"]
    used: Counter[tuple[str, ...]] = Counter()
    counted: Counter[tuple[str, ...]] = Counter()
    for subject, mine in list(of_subject.items()):
        vms = {event.resource_id for event in mine if event.type == "snapshot.ready"}
        others = [event for vm in vms if vm for event in of_subject[vm] if vm != subject]
        for span in reference.lifespans([*mine, *others, *retractions]).values():
            usage = reference.byte_micros(span, start, end, end)
            if usage is not None:
                ready = span.ready
                key = (ready.account_id or "", f"snapshot.{ready.resource_type}", ready.region or "")
                used[key] += usage
                counted[key] += 1
    return [(*key, used[key], counted[key]) for key in used]


@pytest.fixture(scope="module")
def expected(lake: Path) -> str:
    """The hash of the reference's answer."""
    question = Question(str(lake), str(HISTORY.last_month))
    events = events_of(rows(HISTORY, join(list(HISTORY.pieces()))))
    return hash_of(by_reference(events, question.start, question.end))


@pytest.mark.parametrize(
    "peer", ["ours", "by_hand", *(pytest.param(peer, marks=pytest.mark.soak) for peer in PEERS[3:])]
)
def test_every_engine_answers_as_the_reference_does(lake: Path, expected: str, peer: str) -> None:
    """On late readies, ties, resizes, ends of VMs, failures and retractions."""
    question = Question(str(lake), str(HISTORY.last_month))
    try:
        answer = run("ask", "month", 1, peer=peer, question=question.arguments()).answer
    except Failed as failure:
        if "not installed" in str(failure):
            pytest.skip(str(failure))
        raise
    assert answer["hash"] == expected


def test_a_history_holds_what_makes_metering_hard() -> None:
    """Each rule has something to do."""
    events = join(list(HISTORY.pieces()))
    assert len(events) == pytest.approx(HISTORY.events, rel=0.1)
    names, counts = np.unique(events.name, return_counts=True)
    assert counts.max() == 1 and len(names) == len(events)
    assert set(events.type.tolist()) == set(range(len(TYPES)))
    ready = events.take(events.type == READY).sorted()
    at_once = Counter(zip(ready.subject.tolist(), ready.time.tolist(), strict=True))
    assert max(at_once.values()) > 1
    assert len(set(ready.subject.tolist())) < len(ready)
    question = Question("", str(HISTORY.last_month))
    told = events_of(rows(HISTORY, events))
    answers = [by_reference([e for e in told if e.type != left_out], question.start, question.end) for left_out in HARD]
    assert len({hash_of(answer) for answer in answers}) == len(HARD)


def test_a_lake_holds_the_history_once_and_sorted(lake: Path) -> None:
    """Cut into batches and back together nothing is lost, and each batch lies by type and time."""
    manifest = Lake(lake).manifest()
    assert len(manifest.batches) == 5
    assert sum(b.events.rows for b in manifest.batches if b.events) == sum(len(p) for p in HISTORY.pieces())
    for path in Question(str(lake), "2025-12").files:
        keys = pq.read_table(path, columns=["type", "time"]).to_pydict()
        pairs = list(zip(keys["type"], keys["time"], strict=True))
        assert pairs == sorted(pairs)


def test_histories_of_any_length_share_what_is_alive_and_the_night() -> None:
    """Exactly so many snapshots live at the end, the same ones, and the same events follow."""
    short, long = History(1_000, alive=100), History(3_000, alive=100)
    alive = []
    for history in (short, long):
        events = events_of(rows(history, join(list(history.pieces()))))
        spans = reference.lifespans(events)
        alive.append({name: span.ready for name, span in spans.items() if span.end is None})
    assert alive[0] == alive[1] and len(alive[0]) == 100
    nights = [history.night(40) for history in (short, long)]
    assert rows(short, nights[0]) == rows(long, nights[1])
    assert _kinds(nights[0]) == {"new": 10, "gone": 20}
    assert nights[0].time.min() >= short.end


def _kinds(night: Events) -> dict[str, int]:
    new = (night.type == READY) & (night.subject >= NEW)
    gone = (night.type == DELETED) & (night.subject >= LASTING) & (night.subject < NEW)
    return {"new": int(new.sum()), "gone": int(gone.sum())}


def test_two_in_a_hundred_come_twice() -> None:
    """A redelivery repeats its event to the letter."""
    piece = next(HISTORY.pieces())
    sent = with_redeliveries(HISTORY, piece)
    times = Counter(sent.name.tolist())
    assert set(times) == set(piece.name.tolist())
    assert sum(count == 2 for count in times.values()) == pytest.approx(len(piece) * 0.02, rel=0.2)
