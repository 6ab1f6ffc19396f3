"""The engine: whether the cluster that computes usage is there, and sees the lake."""

from __future__ import annotations

from collections.abc import Iterator

from metering.doctor.finding import Finding, fail, ok
from metering.errors import MeteringError
from metering.home import Home
from metering.lake.elsewhere import Parts


def engine(home: Home) -> Iterator[Finding]:
    """The cluster does a small job and reads a file of the lake; of DuckDB, which is always there, nothing is told."""
    settings = home.config.engine
    if settings.name == "duckdb":
        return
    from metering.spark.relations import OnCluster
    from metering.spark.session import version

    try:
        yield ok(f"Spark {version(settings)} at {settings.remote or settings.master} does a job")
        held = [part.events for part in home.lake.manifest().parts() if part.events]
        if held:
            OnCluster(Parts(home.lake.files.url, held[-1:], [], None), settings).open()
            yield ok("it sees the files of the lake")
    except MeteringError as error:
        yield fail(error.message, error.remedy)
