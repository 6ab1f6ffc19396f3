"""This project's relations on a Spark cluster of two workers on this machine, each a process of its own."""

from __future__ import annotations

import os
from datetime import UTC
from pathlib import Path

from metering.config import Engine
from metering.lake import Lake, connect
from metering.spark import cluster
from metering.usage import meter
from metering.values import Month

from ..question import Question, Row
from .ours import rows_of

MASTER = os.environ.get("METERING_SPARK_MASTER", "local-cluster[2,1,1024]")


def month(question: Question) -> list[Row]:
    """Usage per account × SKU × region; the time has the start of the cluster in it."""
    settings = Engine(
        name="spark", master=MASTER, conf={"spark.executor.memory": "1024m", "spark.sql.shuffle.partitions": 8}
    )
    with connect() as con:
        Lake(Path(question.lake), cluster(settings)).attach_usage(con)
        meter.open_relations(con, question.end, UTC)
        meter.set_periods(con, meter.month_periods([Month.parse(question.month)], UTC))
        return rows_of(meter.account_usage(con))
