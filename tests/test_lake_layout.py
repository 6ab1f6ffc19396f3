"""Files of events hold one type a row group and keys beside texts; files of the first layout are read all the same."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from usage_given import UNKEYED, events_table, parse_events

from metering.events import keys
from metering.events.merging import placed
from metering.lake import Batch, Lake, connect
from metering.lake.compaction import compact

GIVEN = """
    2026-05-01 retract x id=e1 retracted_source=/s retracted_id=e2
    2026-05-01 ready a id=e2 resource_id=vm-é
    2026-05-02 ready b id=e3 resource_type=volume
    2026-05-03 vm-deleted vm-é id=e4
"""


def first_bytes(text: str) -> tuple[int, int]:
    digest = sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True), int.from_bytes(digest[8:16], "big", signed=True)


def committed(root: Path, table: pa.Table, *, old: bool) -> Lake:
    """A lake of one more batch, of the first layout or of this one."""
    lake = Lake(root)
    number = lake.manifest().last_batch + 1
    table = table.sort_by("type").set_column(0, table.schema.field(0), pa.repeat(pa.scalar(number), table.num_rows))
    path = f"{number:08}"
    if old:
        stored = table.drop_columns(UNKEYED)
        file = lake.write(f"events/{path}.parquet", lambda part: pq.write_table(stored, part), table.num_rows)
    else:
        file = lake.write_events(path, [table], table.num_rows)
    lake.commit(Batch(batch=number, ingested_at=0, events=file))
    return lake


def held(lake: Lake) -> list[dict[str, object]]:
    with connect() as con:
        lake.attach(con)
        return con.sql("FROM events ORDER BY batch, id").to_arrow_table().to_pylist()


@pytest.mark.parametrize("few", [0, 10_000], ids=["by DuckDB", "one by one"])
def test_keys_are_what_the_dictionary_says(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first 16 bytes of SHA-256, whoever computes them; none where there is no text."""
    monkeypatch.setattr(keys, "FEW", few)
    e1, e2, e3, e4 = events_table(parse_events(GIVEN)).sort_by("id").to_pylist()
    assert (e2["event_high"], e2["event_low"]) == first_bytes("/s\x1fe2") == (e1["retracted_high"], e1["retracted_low"])
    assert (e4["subject_high"], e4["subject_low"]) == first_bytes("vm-é") == (e2["vm_high"], e2["vm_low"])
    assert e3["vm_high"] is e3["vm_low"] is e2["retracted_high"] is e4["vm_low"] is None


def test_the_first_layout_is_read_with_the_same_keys(tmp_path: Path) -> None:
    """Beside batches of this one, too, and after a merge the keys are stored."""
    table = events_table(parse_events(GIVEN))
    committed(tmp_path, table, old=True)
    lake = committed(tmp_path, table, old=False)
    rows = held(lake)
    old, new = rows[: table.num_rows], rows[table.num_rows :]
    assert [{**row, "batch": 2} for row in old] == new
    compact(lake, least=2)
    assert held(lake) == rows
    (part,) = lake.manifest().parts()
    assert set(UNKEYED) <= set(pq.read_schema(lake.root / part.events.path).names)


def test_no_row_group_holds_two_types(tmp_path: Path) -> None:
    """So that statistics tell which to read."""
    lake = committed(tmp_path, events_table(parse_events(GIVEN)), old=False)
    meta = pq.read_metadata(lake.root / "events/00000001.parquet")
    at = meta.schema.names.index("type")
    groups = [meta.row_group(number).column(at).statistics for number in range(meta.num_row_groups)]
    assert [(group.min, group.max) for group in groups] == [
        (kind, kind) for kind in ("event.retracted", "snapshot.ready", "vm.deleted")
    ]


def test_of_one_subject_and_instant_the_smaller_source_and_id_has_the_smaller_place() -> None:
    """Those of one instant are by the keys of their subjects, which are the first bytes of a SHA-256."""
    given = """
        2026-05-01 ready a id=e9 source=/t
        2026-05-02 ready a id=e9 source=/s
        2026-05-02 ready b id=e7
        2026-05-02 ready a id=e10 source=/s
        2026-05-02 ready a id=e8 source=/r
    """
    rows = placed(events_table(parse_events(given))).to_pylist()
    assert sha256(b"a").hexdigest()[0] == "c" and sha256(b"b").hexdigest()[0] == "3", "that of a is negative"
    assert [(row["source"], row["id"]) for row in rows] == [
        ("/t", "e9"), ("/r", "e8"), ("/s", "e10"), ("/s", "e9"), ("/s", "e7"),
    ]  # fmt: skip
