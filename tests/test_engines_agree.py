"""The sample's quarter on every ledger and in every place for the lake: the same invoices, hashes and seals."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from homes import Home as Told
from ledgers import ENGINES, ledgers_on, with_ledger
from s3_server import new_store

from metering import story
from metering.checks.verify import verify
from metering.clock import Clock
from metering.home import Home
from metering.ledger.tables import metadata
from metering.payments import desk

pytestmark = pytest.mark.soak

FOLDER, BUCKET = PLACES = ("folder", "bucket")
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


@cache
def outcome(engine: str, place: str) -> tuple[Kept, dict[str, bytes]]:
    """The ledger, and the files that the closes wrote into the lake.

    Cards are charged one after the other here: side by side, the order of posting is that of the answers.
    """
    path = Path(mkdtemp()) / "home"
    with pytest.MonkeyPatch.context() as patch, ledgers_on(engine):
        patch.setattr(desk, "WORKERS", 1)
        if place == FOLDER:
            home = played(path, "")
            lake = path / "lake"
            files = {str(each.relative_to(lake)): each.read_bytes() for each in lake.rglob("closes/**/*.parquet")}
        else:
            store = new_store(patch.setenv)
            home = played(path, store.url)
            files = {name: data for name, data in store.objects().items() if name.startswith("closes/")}
        return kept(home), files


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_quarter_is_the_same_everywhere(engine: str, place: str) -> None:
    (first, first_files), (other, other_files) = outcome(ENGINES[0], FOLDER), outcome(engine, place)
    assert len(first["invoices"]) > 10
    assert len(first["seals"]) > 50
    for name in metadata().tables:
        assert first[name] == other[name], name
    assert len(first_files) == 9
    assert first_files == other_files
