"""Usage on a Spark cluster that is there already: `[engine] name = "spark"`; see README.md."""

from __future__ import annotations

from metering.config import Engine as Settings
from metering.lake.elsewhere import Compute


def cluster(settings: Settings) -> Compute:
    """What computes the relations of usage on the cluster; it is not reached before the first question."""
    from metering.spark.relations import OnCluster

    return lambda parts: OnCluster(parts, settings)
