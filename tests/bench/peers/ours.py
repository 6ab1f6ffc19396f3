"""This project from raw events: the relations of `metering/usage`, as a close of one month asks them."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

import pandas  # noqa: F401, DuckDB imports it with the first table that it is handed; a command does without
import pyarrow as pa

from metering.columns import whole_rows_of
from metering.lake import Lake, connect
from metering.usage import meter
from metering.values import Month

from ..question import Question, Row


def month(question: Question) -> list[Row]:
    """Usage per account × SKU × region."""
    with connect(question.memory_limit, question.spill) as con:
        con.execute(f"SET threads = {question.threads}")
        Lake(Path(question.lake)).attach(con)
        meter.open_relations(con, question.end, UTC)
        meter.set_periods(con, meter.month_periods([Month.parse(question.month)], UTC))
        return rows_of(meter.account_usage(con))


def rows_of(usage: pa.Table) -> list[Row]:
    """The rows of a table of usage, as a close reads them."""
    return list(whole_rows_of(usage.select(["account_id", "sku", "region", "byte_micros", "snapshots"])))
