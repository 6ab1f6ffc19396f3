"""What tests of a computation elsewhere are given: lakes of many streams at once, and every answer over them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from msgspec import structs
from reference import Event
from test_usage_properties import streams
from usage_given import UNKEYED, events_table, laid_out, quarantine_table

from metering.config import Engine
from metering.lake import Batch, Lake, Merged, compose, connect
from metering.lake.elsewhere import Compute, Parts
from metering.lake.store import File
from metering.usage import meter

CONF: dict[str, str | int | bool] = {
    "spark.driver.memory": "1g",
    "spark.executor.memory": "1g",
    "spark.sql.shuffle.partitions": 2,
    "spark.ui.enabled": False,
}
PLAIN: dict[str, str | int | bool] = {
    "spark.sql.adaptive.enabled": False,
    "spark.sql.codegen.wholeStage": False,
    "spark.sql.shuffle.partitions": 1,
}
"""For the many small questions of a home: planning and compiling one takes longer than answering it."""
ACCOUNTS = ["a1"]
UNPRICED = ("a2", "snapshot.vm", "r1")


@cache
def cluster_settings() -> Engine:
    """The cluster; skips the test where pyspark or Java is missing."""
    pytest.importorskip("pyspark", reason="pyspark is not installed: pip install 'metering[spark]'")
    remote = os.environ.get("METERING_SPARK_REMOTE")
    if remote:
        return Engine(name="spark", remote=remote)
    if shutil.which("java") is None:
        pytest.skip("there is no Java on the PATH")
    master = os.environ.get("METERING_SPARK_MASTER", "local-cluster[2,1,1024]")
    return Engine(name="spark", master=master, conf=CONF)


def plain_cluster() -> Engine:
    """The cluster, for homes."""
    found = cluster_settings()
    return structs.replace(found, conf={**found.conf, **PLAIN})


def many_streams(count: int) -> list[Event]:
    """The events of so many streams, always the same ones; each stream has snapshots, VMs and sources of its own."""
    found: list[list[Event]] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(streams)
    def take(stream: list[Event]) -> None:
        found.append(stream)

    take()
    return [_apart(event, number) for number, stream in enumerate(found) for event in stream]


def _apart(event: Event, number: int) -> Event:
    texts = {name: getattr(event, name) for name in ("subject", "source", "resource_id", "retracted_source")}
    return replace(event, **{name: f"{text}-{number}" for name, text in texts.items() if text is not None})


def make_lake(
    root: Path, events: Iterable[Event], quarantine: Sequence[dict[str, Any]] = (), old: Collection[int] = ()
) -> Path:
    """A lake with the events in their batches, `old` ones in the first layout, and refused lines in the first one."""
    root.mkdir(parents=True)
    lake = Lake(root)
    listed = list(events)
    for number in range(1, max((event.batch for event in listed), default=1) + 1):
        rows = [event for event in listed if event.batch == number]
        refused = quarantine_table(quarantine if number == 1 else ())
        lake.commit(
            Batch(
                batch=number,
                ingested_at=number,
                events=_events(lake, number, rows, number in old) if rows else None,
                quarantine=_plain(lake, f"quarantine/{number:08}", refused) if len(refused) else None,
            )
        )
    return root


def _events(lake: Lake, number: int, events: list[Event], is_old: bool) -> File:
    table = laid_out(events_table(events))
    if is_old:
        return _plain(lake, f"events/{number:08}", table.drop_columns(UNKEYED))
    return lake.write_events(f"{number:08}", [table], table.num_rows)


def _plain(lake: Lake, name: str, table: pa.Table) -> File:
    return lake.write(f"{name}.parquet", lambda part: pq.write_table(table, part), table.num_rows)


def conflicts(events: Iterable[Event], count: int) -> list[dict[str, Any]]:
    """Refused lines that contradict some of the events."""
    chosen = [event for event in events if event.type in ("snapshot.ready", "vm.deleted")][:count]
    return [
        {"id": f"q{number}", "reason": "conflict", "source": e.source, "event_id": e.id, "subject": e.subject}
        for number, e in enumerate(chosen)
    ]


def answers(
    lake: Lake,
    now: int,
    zone: str,
    periods: Sequence[meter.Period],
    through: int | None = None,
    only: Sequence[str] = (),
) -> dict[str, list[dict[str, Any]]]:
    """Every answer of the room, row by row; `only` some of them."""
    con = connect()
    lake.attach_usage(con, through)
    meter.open_relations(con, now, ZoneInfo(zone), keep_lifespans=True)
    first = meter.first_month(con, ZoneInfo(zone))
    meter.set_periods(con, periods)
    unpriced = [meter.Unpriced(periods[0].month, *UNPRICED, periods[0].period_start, periods[0].period_end)]
    asked: dict[str, Callable[[], pa.Table]] = {
        "account_usage": lambda: meter.account_usage(con),
        "project_usage": lambda: meter.project_usage(con),
        "snapshot_usage": lambda: meter.snapshot_usage(con),
        "usage_by_snapshot": lambda: meter.usage_by_snapshot(con),
        "stretch_usage": lambda: meter.stretch_usage(con, meter.alive(con)["snapshot_id"].to_pylist()),
        "expected_usage": lambda: meter.expected_usage(con),
        "alive": lambda: meter.alive(con),
        "lifespans": lambda: con.sql(compose(con, "FROM lifespans ORDER BY ALL", "usage")).to_arrow_table(),
        "anomalies": lambda: meter.anomalies(con, accounts=ACCOUNTS, unpriced=unpriced, resolved=["q1"]),
        # The same question again, after another horizon was set for the anomalies.
        "again": lambda: meter.account_usage(con),
    }
    found = {name: ask().to_pylist() for name, ask in asked.items() if not only or name in only}
    return {**found, "first_month": [{"month": str(first)}]}


class OtherDuck:
    """An engine that is no cluster, but as far away from the connection as one."""

    room = "usage"
    answered: list[str]

    def __init__(self, parts: Parts) -> None:
        self.answered = []
        self.con: duckdb.DuckDBPyConnection = connect()
        cut = None if parts.through is None else f"batch <= {parts.through}"
        lake = Lake(Path(parts.url))
        for table, files in (("events", parts.events), ("quarantine", parts.quarantine)):
            lake.define_rows(self.con, table, table, [Merged(first=0, last=0, **{table: file}) for file in files], cut)

    def give(self, name: str, rows: pa.Table) -> None:
        self.con.register(name, rows)

    def take(self, name: str) -> None:
        self.con.unregister(name)

    def keep(self, name: str) -> None:
        self.con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {compose(self.con, f'FROM {name}', 'usage')}")

    def answer(self, name: str) -> pa.Table:
        self.answered.append(name)
        return self.con.sql(compose(self.con, f"SELECT * FROM {name}", "usage")).to_arrow_table()

    def close(self) -> None:
        self.con.close()


def other_duck(made: list[OtherDuck]) -> Compute:
    """Has every connection computed for by an engine of its own, which can be looked at afterwards."""

    def compute(parts: Parts) -> OtherDuck:
        made.append(OtherDuck(parts))
        return made[-1]

    return compute
