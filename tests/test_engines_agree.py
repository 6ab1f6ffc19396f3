"""The sample's quarter on SQLite and on PostgreSQL: the same invoices, hashes and seals, to the byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from homes import Home as Told
from ledgers import ENGINES, ledgers_on, with_ledger

from metering import story
from metering.checks.verify import verify
from metering.clock import Clock
from metering.home import Home
from metering.ledger.tables import metadata
from metering.payments import desk

pytestmark = pytest.mark.soak


def played(path: Path) -> Told:
    """A home after the whole calendar."""
    story.make_home(path)
    config = path / "metering.toml"
    config.write_text(with_ledger(path, config.read_text()))
    *_, last = story.play(path)
    found = [(name, problems) for name, problems in verify(Home(path, Clock(last.step.at))) if problems]
    assert found == []
    return Told(path)


def kept(home: Told) -> dict[str, list[dict[str, Any]]]:
    """Every row of the ledger but what tells of the configuration."""
    tables = {name: home.ledger(name) for name in metadata().tables}
    tables["seals"] = [row for row in tables["seals"] if row["sealed_table"] != "runs"]
    tables["runs"] = [{k: v for k, v in row.items() if k not in ("config_hash", "summary")} for row in tables["runs"]]
    return tables


def files(home: Told) -> dict[str, bytes]:
    """What the closes wrote into the lake."""
    return {path.name: path.read_bytes() for path in sorted((home.path / "lake" / "closes").rglob("*.parquet"))}


def test_a_quarter_is_the_same_on_every_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cards are charged one after the other here: side by side, the order of posting is that of the answers."""
    monkeypatch.setattr(desk, "WORKERS", 1)
    outcomes = []
    for engine in ENGINES:
        with ledgers_on(engine):
            home = played(tmp_path / engine)
            outcomes.append((kept(home), files(home)))
    (first, first_files), (second, second_files) = outcomes
    assert len(first["invoices"]) > 10
    assert len(first["seals"]) > 50
    for name in metadata().tables:
        assert first[name] == second[name], name
    assert first_files == second_files
