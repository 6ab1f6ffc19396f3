"""Sorted runs: whatever is given comes out sorted, is found, is proved, and takes little memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.lake import entries as entries_module
from metering.lake.entries import Damaged, Entries, ExternalSort, Kinds, RunWriter, SortedRun, merged

KINDS: Kinds = {"key": np.uint64, "batch": np.uint32}
KEYS = st.one_of(st.integers(0, 9), st.integers(0, 2**64 - 1))
examples = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
PAIRS = st.lists(st.tuples(KEYS, st.integers(0, 5)), max_size=60)


def columns(pairs: list[tuple[int, int]]) -> Entries:
    """Pairs as columns."""
    return {
        "key": np.array([key for key, _ in pairs], np.uint64),
        "batch": np.array([of for _, of in pairs], np.uint32),
    }


def pairs_of(parts: Entries) -> list[tuple[int, int]]:
    """Columns as pairs."""
    return list(zip(parts["key"].tolist(), parts["batch"].tolist(), strict=True))


def written(folder: Path, pairs: list[tuple[int, int]], step: int = 7) -> SortedRun:
    """A run of sorted pairs, some of which are added at a time."""
    writer = RunWriter(folder / "run", folder / "blocks", KINDS)
    for start in range(0, len(pairs), step):
        writer.add(columns(pairs[start : start + step]))
    writer.close()
    assert writer.rows == len(pairs)
    return SortedRun(folder / "run", folder / "blocks", KINDS)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, parts and memory for a handful of entries."""
    for name, value in {"BLOCK": 4, "AT_ONCE": 8, "ROOM": 10, "_MOST_TOUCHED": 2}.items():
        monkeypatch.setattr(entries_module, name, value)


@examples
@given(st.lists(PAIRS, max_size=4), st.lists(PAIRS, max_size=3))
def test_what_comes_in_any_order_goes_out_sorted(
    small: None, added: list[list[tuple[int, int]]], runs: list[list[tuple[int, int]]]
) -> None:
    """Out of memory, unnamed files and runs: each entry once, and those of one key together."""
    folder = Path(mkdtemp())
    sort = ExternalSort(folder, KINDS)
    for pairs in added:
        sort.add(columns(pairs))
    places = [folder / str(number) for number in range(len(runs))]
    for place in places:
        place.mkdir()
    sources = [*sort.sources(), *(written(place, sorted(pairs)) for place, pairs in zip(places, runs, strict=True))]
    parts = [pairs_of(part) for part in merged(sources, KINDS)]
    found = [pair for part in parts for pair in part]
    assert [key for key, _ in found] == sorted(key for key, _ in found)
    assert sorted(found) == sorted(pair for pairs in (*added, *runs) for pair in pairs)
    assert sorted(path.name for path in folder.iterdir()) == [place.name for place in places]
    keys = [{key for key, _ in part} for part in parts]
    assert sum(map(len, keys)) == len(set().union(*keys))


@examples
@given(PAIRS, st.lists(KEYS, max_size=20))
def test_a_run_finds_every_entry_of_a_key(small: None, pairs: list[tuple[int, int]], others: list[int]) -> None:
    """And nothing of others, however many entries one key has."""
    run = written(Path(mkdtemp()), sorted(pairs))
    keys = sorted({*others, *(key for key, _ in pairs[::2])})
    found, places = run.find(np.array(keys, np.uint64))
    expected = [(key, of) for key, of in sorted(pairs) if key in keys]
    assert pairs_of(found) == expected
    assert [keys[place] for place in places.tolist()] == [key for key, _ in expected]


@pytest.mark.parametrize("place", [0, 100, 4096 + 4, 6144 * 2 + 8 * 150, -1])
def test_a_changed_block_is_not_read(tmp_path: Path, place: int) -> None:
    """A flipped bit of a key, of a batch, or of what fills the last block up; the other blocks can be asked."""
    pairs = [(key, key % 7) for key in range(10, 1310)]
    written(tmp_path, pairs)
    data = bytearray((tmp_path / "run").read_bytes())
    place %= len(data)
    data[place] ^= 1
    (tmp_path / "run").write_bytes(data)
    run = SortedRun(tmp_path / "run", tmp_path / "blocks", KINDS)
    bad = place // 6144
    for block, key in enumerate([10, 10 + 512, 10 + 1024]):
        if block == bad:
            with pytest.raises(Damaged, match=f"block {bad} of run was changed"):
                run.find(np.array([key + 3], np.uint64))
        else:
            assert pairs_of(run.find(np.array([key + 3], np.uint64))[0]) == [(key + 3, (key + 3) % 7)]
    with pytest.raises(Damaged):
        list(merged([run], KINDS))
    (tmp_path / "run").write_bytes(data[:-1])
    with pytest.raises(Damaged, match="another size"):
        SortedRun(tmp_path / "run", tmp_path / "blocks", KINDS)


def test_memory_does_not_grow_with_the_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """400,000 entries of 12 bytes are sorted, written and read in less than a fourth of what they take."""
    monkeypatch.setattr(entries_module, "ROOM", 10_000)
    monkeypatch.setattr(entries_module, "AT_ONCE", 10_000)
    keys = np.random.default_rng(1).integers(0, 2**64, 400_000, np.uint64)
    tracemalloc.start()
    sort = ExternalSort(tmp_path, KINDS)
    for start in range(0, len(keys), 5000):
        sort.add({"key": keys[start : start + 5000], "batch": np.ones(5000, np.uint32)})
    writer = RunWriter(tmp_path / "run", tmp_path / "blocks", KINDS)
    for some in merged(sort.sources(), KINDS):
        writer.add(some)
    writer.close()
    rows = sum(len(some["key"]) for some in merged([SortedRun(tmp_path / "run", tmp_path / "blocks", KINDS)], KINDS))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == 400_000
    assert peak < 400_000 * 12 // 4
