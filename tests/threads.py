"""On how many threads DuckDB computes in a test.

Each core has a worker of its own, and on the few rows of most tests threads do little but wait for each other, which
is a tenth of all processor time. So a file has one, unless order or size could matter to what it proves.
"""

from __future__ import annotations

import os
from pathlib import Path

import duckdb

from metering.lake import duck

SEVERAL = (
    "test_close_blocks",
    "test_golden_months",
    "test_sample_data",
    "test_usage_laws",
    "test_usage_properties",
    "test_usage_cases",
    "test_events_scale",
    "test_exact",
)
"""Files that compute on all cores."""

_as_it_is = duck._engine


def _on_one(memory_limit: str | None, ordered: bool, spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    con = _as_it_is(memory_limit, ordered, spill)
    con.execute("SET threads = 1")
    return con


def compute_on_one() -> None:
    """Have all engines of this process, and of those forked from it, compute on one thread."""
    duck._engine = _on_one
    _set(1)


def compute_on_all() -> None:
    """Have them compute on as many threads as there are cores, as they do outside of tests."""
    duck._engine = _as_it_is
    _set(os.cpu_count() or 1)


def _set(count: int) -> None:
    for (_, _, ordered), con in duck._engines.items():
        con.execute(f"SET threads = {1 if ordered else count}")
