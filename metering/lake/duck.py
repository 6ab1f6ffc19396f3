"""The DuckDB connection on which relations are defined."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import duckdb

from metering.sql import sql


def connect(memory_limit: str | None = None, spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory connection in UTC that never reaches for the network."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "preserve_insertion_order": False,
    }
    if memory_limit:
        settings["memory_limit"] = memory_limit
    if spill:
        settings["temp_directory"] = str(spill)
    con = duckdb.connect(":memory:", config=settings)
    con.execute("SET TimeZone = 'UTC'")
    return con


def define(con: duckdb.DuckDBPyConnection, room: str, *names: str, kind: Literal["VIEW", "TABLE"] = "VIEW") -> None:
    """Define relations from `metering/<room>/<name>.sql`, each as a temporary view or table of that name."""
    for name in names:
        con.execute(f"CREATE OR REPLACE TEMP {kind} {name} AS {sql(room, name)}")
