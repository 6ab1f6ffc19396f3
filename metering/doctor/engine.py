"""The engine: whether the cluster that computes usage is there."""

from __future__ import annotations

from collections.abc import Iterator

from metering.doctor.finding import Finding, fail, ok
from metering.errors import MeteringError
from metering.home import Home


def engine(home: Home) -> Iterator[Finding]:
    """The cluster does a small job; DuckDB is always there, so that nothing is told of it."""
    settings = home.config.engine
    if settings.name == "duckdb":
        return
    from metering.spark.session import version

    try:
        yield ok(f"Spark {version(settings)} at {settings.remote or settings.master} does a job")
    except MeteringError as error:
        yield fail(error.message, error.remedy)
