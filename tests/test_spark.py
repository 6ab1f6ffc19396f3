"""On a cluster of two workers, each a process of its own, every row is what DuckDB says, to the last digit.

`pytest -m soak -n 0 tests/test_spark.py` runs it; METERING_SPARK_MASTER or METERING_SPARK_REMOTE name another cluster.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from homes import Home
from msgspec import structs
from reference import Event, snapshot_usage
from spark_given import answers, cluster_settings, conflicts, make_lake, many_streams, plain_cluster
from usage_given import instant, months, parse_events

from metering.config import Engine as Settings
from metering.errors import MeteringError
from metering.home import Home as Engine
from metering.lake import Lake
from metering.lake.compaction import compact
from metering.lake.elsewhere import Compute
from metering.usage.meter import Period

pytestmark = [pytest.mark.soak, pytest.mark.xdist_group("spark")]
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.txt"))
STREAMS = int(os.environ.get("METERING_EXAMPLES", "300"))


@pytest.fixture(scope="session")
def settings() -> Settings:
    """The cluster; without pyspark or Java there is none."""
    return cluster_settings()


@pytest.fixture
def on_spark(settings: Settings) -> Compute:
    """What computes on the cluster."""
    from metering.spark import cluster

    return cluster(settings)


@pytest.fixture
def homes_on_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every home computes on the cluster, whatever its file says."""
    from metering.spark import cluster

    monkeypatch.setattr(Engine, "_compute", lambda self: cluster(plain_cluster()))


@pytest.mark.parametrize(
    ("zone", "now", "old"),
    [("Europe/Berlin", "2018-02-10T11:00", ()), ("America/Sao_Paulo", "2019-01-01", (1, 3))],
    ids=["files of one layout", "files of both layouts"],
)
def test_streams_give_the_same_rows(
    on_spark: Compute, tmp_path: Path, zone: str, now: str, old: tuple[int, ...]
) -> None:
    """Hundreds of streams in one lake: every answer of the room; and the usage is what the slow reference says."""
    events = many_streams(STREAMS)
    root = make_lake(tmp_path / "lake", events, conflicts(events, 20), old)
    at, periods = instant(now), months("2017-09", "2018-03", zone)
    here = answers(Lake(root), at, zone, periods)
    assert answers(Lake(root, on_spark), at, zone, periods) == here
    assert all(here.values())
    found = {(row["period_start"], row["snapshot_id"]): int(row["byte_micros"]) for row in here["snapshot_usage"]}
    assert found == snapshot_usage(events, periods, at)
    print(f"{len(events)} events, {sum(map(len, here.values()))} rows equal")


@pytest.mark.parametrize("merged", [False, True])
def test_as_of_a_batch(on_spark: Compute, tmp_path: Path, merged: bool) -> None:
    """Also where a file has rows of later batches, and where all files are of the first layout."""
    lake = Lake(make_lake(tmp_path / "lake", many_streams(60), old=[1, 2, 3]))
    if merged:
        compact(lake, least=2)
        assert len(lake.manifest().parts()) == 1 < lake.manifest().last_batch
    now, periods = instant("2018-02-10T11:00"), months("2017-09", "2018-03")
    only = ("account_usage", "lifespans")
    here = answers(lake, now, "UTC", periods, 2, only)
    assert answers(Lake(lake.root, on_spark), now, "UTC", periods, 2, only) == here
    assert here != answers(lake, now, "UTC", periods, None, only)


def test_an_empty_lake(on_spark: Compute, tmp_path: Path) -> None:
    root = make_lake(tmp_path / "lake", [])
    now, periods = instant("2018-02-10"), months("2018-01", "2018-02")
    only = ("account_usage", "anomalies")
    assert answers(Lake(root, on_spark), now, "UTC", periods, None, only) == answers(
        Lake(root), now, "UTC", periods, None, only
    )


@pytest.mark.parametrize(
    ("count", "until"),
    [(1, 2 * 10**17), (130, 99 * 10**15)],
    ids=["more microseconds than 17 digits", "a sum of more than 38 digits"],
)
def test_what_is_too_large_is_the_same_error(on_spark: Compute, tmp_path: Path, count: int, until: int) -> None:
    """2^63 - 1 bytes for three thousand years: never null, never a figure."""
    events = [
        Event(**{**vars_of(f"s{number}"), "time": 0, "size_bytes": 2**63 - 1, "id": f"e{number}"})
        for number in range(count)
    ]
    root = make_lake(tmp_path / "lake", events)
    told = []
    for lake in (Lake(root), Lake(root, on_spark)):
        with pytest.raises(MeteringError, match="larger than 38 digits") as error:
            answers(lake, until, "UTC", [Period("2018-01", 0, until)], None, ["account_usage"])
        told.append((error.value.exit_code, error.value.unchanged, error.value.remedy))
    assert told[0] == told[1]


def vars_of(snapshot: str) -> dict[str, Any]:
    """The fields of a ready event."""
    (event,) = parse_events(f"2018-01-01 ready {snapshot}")
    return {name: getattr(event, name) for name in event.__dataclass_fields__}


def test_a_lake_that_the_workers_do_not_see(settings: Settings, tmp_path: Path) -> None:
    """Or that has other rows there: said, with what to do."""
    from metering.spark import cluster

    events = many_streams(10)
    root = make_lake(tmp_path / "lake", events)
    other = make_lake(tmp_path / "other", events[: len(events) // 2])
    now, periods = instant("2018-02-10"), months("2018-01", "2018-02")
    for place, words in ((tmp_path / "nowhere", "does not find the lake"), (other, "finds .* rows .* the lake has")):
        elsewhere = structs.replace(settings, lake_url=f"file://{place}")
        with pytest.raises(MeteringError, match=words) as error:
            answers(Lake(root, cluster(elsewhere)), now, "UTC", periods, None, ["account_usage"])
        assert error.value.exit_code == 1 and error.value.remedy


@pytest.mark.parametrize("story", GOLDEN, ids=lambda path: path.stem)
def test_month_comes_out_as_the_pencil_says(home: Home, homes_on_spark: None, story: Path) -> None:
    """Whole homes: ingest, close, reports, nights, verify."""
    home.tell(story.read_text("utf-8"))


def test_a_home_that_names_the_cluster_in_its_file(home: Home, settings: Settings) -> None:
    """The doctor says whether it answers, and usage comes from there."""
    address = f'remote = "{settings.remote}"' if settings.remote else f'master = "{settings.master}"'
    conf = ", ".join(
        f'"{key}" = {str(value).lower() if isinstance(value, bool) else repr(value)}'
        for key, value in settings.conf.items()
    )
    home.file("metering.toml", f'[engine]\nname = "spark"\n{address}\nconf = {{ {conf} }}\n')
    home.accounts("acc-1,USD,20,pm_card_visa")
    home.events("2026-05-03T10 ready s1 acc=acc-1 gb=100")
    home.run("ingest", str(home.path / "inbox"))
    assert home.report("usage", "--month", "2026-05")[0]["gb_hours"] == "68600.000000000"
    told = home.run("doctor", exit_code=None).stdout
    assert "does a job" in told and "sees the files" in told
