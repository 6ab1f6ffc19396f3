"""The sample's quarter on every ledger, in every place for the lake, by every engine: the same invoices, hashes, seals.

Spark reads a lake in a bucket as its workers would see it mounted: the jars by which it reads `s3a://` itself come from
no package index that the tests may use.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from homes import Home as Told
from ledgers import ENGINES, ledgers_on, with_ledger
from msgspec import structs
from s3_server import Store, new_store
from spark_given import plain_cluster

from metering import story
from metering.checks.verify import verify
from metering.clock import Clock
from metering.home import Home
from metering.lake.elsewhere import Compute, Parts
from metering.lake.elsewhere import Engine as Computed
from metering.ledger.tables import metadata
from metering.payments import desk

pytestmark = [pytest.mark.soak, pytest.mark.xdist_group("spark")]

FOLDER, BUCKET = PLACES = ("folder", "bucket")
DUCKDB, SPARK = COMPUTED_BY = ("duckdb", "spark")
Kept = dict[str, list[dict[str, Any]]]


def played(path: Path, url: str) -> Told:
    """A home after the whole calendar."""
    story.make_home(path)
    config = path / "metering.toml"
    text = config.read_text()
    config.write_text(with_ledger(path, f'{text}\n[lake]\nurl = "{url}"\n' if url else text))
    *_, last = story.play(path)
    found = [(name, problems) for name, problems in verify(Home(path, Clock(last.step.at))) if problems]
    assert found == []
    return Told(path)


def kept(home: Told) -> Kept:
    """Every row of the ledger but what tells of the configuration."""
    tables = {name: home.ledger(name) for name in metadata().tables}
    tables["seals"] = [row for row in tables["seals"] if row["sealed_table"] != "runs"]
    tables["runs"] = [{k: v for k, v in row.items() if k not in ("config_hash", "summary")} for row in tables["runs"]]
    return tables


def outcome(engine: str, place: str, computed_by: str) -> tuple[Kept, dict[str, bytes]]:
    """The ledger, and the files that the closes wrote into the lake.

    Cards are charged one after the other here: side by side, the order of posting is that of the answers.
    """
    path = Path(mkdtemp()) / "home"
    with pytest.MonkeyPatch.context() as patch, ledgers_on(engine):
        patch.setattr(desk, "WORKERS", 1)
        store = new_store(patch.setenv) if place == BUCKET else None
        if computed_by == SPARK:
            patch.setattr(Home, "_compute", lambda self: by_spark(store, path.with_name("mounted")))
        home = played(path, store.url if store else "")
        if store:
            files = {name: data for name, data in store.objects().items() if name.startswith("closes/")}
        else:
            lake = path / "lake"
            files = {str(each.relative_to(lake)): each.read_bytes() for each in lake.rglob("closes/**/*.parquet")}
        return kept(home), files


def by_spark(store: Store | None, mounted: Path) -> Compute:
    """Has the cluster compute; a bucket is seen by its workers as a folder."""
    from metering.spark import cluster

    if store is None:
        return cluster(plain_cluster())

    def compute(parts: Parts) -> Computed:
        for name, data in store.objects().items():
            path = mounted / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return cluster(structs.replace(plain_cluster(), lake_url=f"file://{mounted}"))(parts)

    return compute


known = cache(outcome)


@pytest.mark.parametrize("computed_by", COMPUTED_BY)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_quarter_is_the_same_everywhere(engine: str, place: str, computed_by: str) -> None:
    """`verify` is clean in each; every row of the ledger, every hash and every file of a close is the same."""
    first, first_files = known(ENGINES[0], FOLDER, DUCKDB)
    other, other_files = known(engine, place, computed_by)
    assert len(first["invoices"]) > 10
    assert len(first["seals"]) > 50
    for name in metadata().tables:
        assert first[name] == other[name], name
    assert len(first_files) == 9
    assert first_files == other_files
