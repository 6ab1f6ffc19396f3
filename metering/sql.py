"""SQL lives in `.sql` files, one relation a file, beside the code that runs it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def sql(room: str, name: str) -> str:
    """The text of `metering/<room>/<name>.sql`."""
    return files(f"metering.{room}").joinpath(f"{name}.sql").read_text("utf-8")


@cache
def has_sql(room: str, name: str) -> bool:
    """Whether there is such a relation."""
    return files(f"metering.{room}").joinpath(f"{name}.sql").is_file()
