"""Where another engine computes usage, every command says the same; what a cluster lacks is told with a remedy."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from homes import Home
from spark_given import OtherDuck, answers, conflicts, make_lake, many_streams, other_duck
from usage_given import instant, months

import metering.usage
from metering.errors import MeteringError, UsageError
from metering.home import Home as Engine
from metering.lake import Lake
from metering.state import advance, policy
from metering.state.files import Store

GOLDEN = Path(__file__).parent / "golden"
SQL = Path(metering.usage.__file__).parent


def test_what_is_computed_elsewhere_is_the_same(tmp_path: Path) -> None:
    """Every answer, also as of a batch; and it was the other engine that computed all of them."""
    events = many_streams(8)
    root = make_lake(tmp_path / "lake", events, conflicts(events, 5), old=[1])
    now, periods = instant("2018-02-10T11:00"), months("2017-09", "2018-03", "Europe/Berlin")
    for through in (None, 2):
        made: list[OtherDuck] = []
        there = answers(Lake(root, other_duck(made)), now, "Europe/Berlin", periods, through)
        assert there == answers(Lake(root), now, "Europe/Berlin", periods, through)
        (engine,) = made
        assert {"first_usage", "account_usage", "anomalies", "lifespans"} <= set(engine.answered)
    assert all(there.values())


def test_a_month_comes_out_as_the_pencil_says(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closes, reports and nights ask the other engine and never notice; test_spark.py tells every story."""
    made: list[OtherDuck] = []
    monkeypatch.setattr(Engine, "_compute", lambda self: other_duck(made))
    home.tell((GOLDEN / "idle.txt").read_text("utf-8"))
    assert any(engine.answered for engine in made)


COMMON = """
    ALL AND ANTI AS BETWEEN BIGINT BY CASE CAST CROSS DATE DECIMAL DISTINCT ELSE END FROM GROUP HAVING IN INTEGER IS
    JOIN LEFT LIKE NULL ON OR ORDER OVER PARTITION SELECT SEMI STRING THEN TRUE UNION USING WHEN WHERE WITH
    coalesce count greatest lead least max max_by min row_number substr sum
    || = < <= > >= <> + - * / %
"""
"""Words that mean the same to DuckDB and to Spark, as relations use them; test_spark.py holds it to both."""


def test_relations_are_said_in_words_that_both_engines_know() -> None:
    """A relation that needs another word is first tried on a cluster."""
    rooms = [path for path in SQL.glob("*.sql") if not path.stem.startswith("kept_")]
    assert len(rooms) > 30
    for path in rooms:
        text = re.sub(r"--[^\n]*|'[^']*'", "", path.read_text("utf-8"))
        found = {*re.findall(r"\b[A-Z]+\b|\b\w+(?=\()", text), *re.findall(r"[^\w\s(),.]+", text)}
        assert found <= set(COMMON.split()), path.name


def test_a_state_is_neither_read_nor_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where DuckDB has left one."""
    monkeypatch.setattr(policy, "is_worth", lambda events: True)
    root = make_lake(tmp_path / "lake", many_streams(5))
    here, there = Lake(root), Lake(root, other_duck([]))
    assert advance(there, instant("2019-01-01")) is None and not (root / "state").exists()
    assert advance(here, instant("2019-01-01")) is not None
    assert Store(here).load() is not None and Store(there).load() is None


def test_pyspark_that_is_missing_is_named_with_its_extra(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.file("metering.toml", '[engine]\nname = "spark"\nmaster = "local[2]"\n')
    found = importlib.util.find_spec
    monkeypatch.setattr("metering.spark.session.find_spec", lambda name: None if name == "pyspark" else found(name))
    home.events("2026-05-03T10 ready s1 acc=acc-1 gb=100")
    home.run("ingest", str(home.path / "inbox"))
    done = home.run("usage", exit_code=2)
    assert "metering[spark]" in done.stderr and "Traceback" not in done.stderr


def test_java_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only a driver in this process needs it: Spark Connect does not."""
    from metering.config import Engine as Settings
    from metering.spark.session import open_session

    monkeypatch.setattr("metering.spark.session.find_spec", lambda name: object())
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="needs Java"):
        open_session(Settings(name="spark", master="local[2]"))


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ({"remote": "sc://127.0.0.1:9"}, "sc://127.0.0.1:9 cannot be reached"),
        ({"master": "spark://127.0.0.1:9,127.0.0.1:10"}, "cannot be reached"),
    ],
)
def test_a_cluster_that_is_not_there_is_named(
    address: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metering.config import Engine as Settings
    from metering.spark.session import open_session

    monkeypatch.setattr("metering.spark.session.find_spec", lambda name: object())
    monkeypatch.setattr("metering.spark.session.shutil.which", lambda *_, **__: "/bin/java")
    with pytest.raises(MeteringError, match=told):
        open_session(Settings(name="spark", **address))


def test_settings_that_figures_depend_on_cannot_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    from metering.config import Engine as Settings
    from metering.spark.session import open_session

    monkeypatch.setattr("metering.spark.session.find_spec", lambda name: object())
    with pytest.raises(UsageError, match=r"\[engine\] conf: spark\.sql\.ansi\.enabled cannot be set"):
        open_session(Settings(name="spark", remote="sc://here", conf={"spark.sql.ansi.enabled": False}))
