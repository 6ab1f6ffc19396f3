"""Fixtures that several test files share."""

from __future__ import annotations

import gc
import multiprocessing.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from homes import Home
from hypothesis import HealthCheck, settings
from ledgers import ENGINES, SQLITE, ledger_url, ledgers_on
from thorough import is_thorough
from threads import SEVERAL, compute_on_all, compute_on_one

from metering.ledger.book import Book, open_book

MEMORY = Path("/dev/shm")
LONGEST = ("test_sample_data", "test_failpoints", "test_state", "test_corrections")
"""Files that would make one worker wait for the other if they came last."""

# A busy machine is no failure: nothing is judged by the clock on the wall.
settings.register_profile("by any clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("by any clock")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--ledger postgresql` runs every test that does not name its engine on that one."""
    parser.addoption("--ledger", choices=ENGINES, default=SQLITE)


def pytest_configure() -> None:
    """Homes lie in memory where there is room, so that no test waits for a disk: what is killed are processes."""
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4 * 2**30:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first; what the default leaves out is marked before that is looked at."""
    for item in items:
        if is_thorough(item.path.stem, item.name) and not item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.thorough)
    longest = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: longest.get(item.path.stem, len(longest)))


def pytest_collection_finish() -> None:
    """What is there before the first test stays until after the last: no collector of cycles need walk over it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every temporary folder lies where pytest's own lie, and goes when they go; the fork server's goes after them."""
    multiprocessing.util.get_temp_dir()
    tempfile.tempdir = str(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module", autouse=True)
def threads(request: pytest.FixtureRequest) -> None:
    """DuckDB computes on one thread, or on all cores in the files for which that matters."""
    if request.path.stem in SEVERAL:
        compute_on_all()
    else:
        compute_on_one()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What opens a ledger in a test or module marked `each_engine` runs once on each."""
    opens = {"home", "book", "tmp_path"} & set(metafunc.fixturenames)
    chosen = any("engine" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if opens and not chosen and metafunc.definition.get_closest_marker("each_engine"):
        metafunc.parametrize("engine", ENGINES, indirect=True)


@pytest.fixture(autouse=True)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """The engine on which the homes of the test keep their ledger: that of the run, or the test's own."""
    name = getattr(request, "param", request.config.getoption("--ledger"))
    with ledgers_on(name):
        yield name


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A fresh home without prices, accounts and events."""
    return Home(tmp_path / "home")


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    """A fresh ledger."""
    made = open_book(ledger_url(tmp_path), tmp_path)
    yield made
    made.close()
