"""This project: the relations of `metering/usage`, as a month's close asks them."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

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
        usage = meter.account_usage(con)
    columns = ("account_id", "sku", "region", "byte_micros", "snapshots")
    rows = zip(*(usage.column(name).to_pylist() for name in columns), strict=True)
    return [(account, sku, region, int(used), count) for account, sku, region, used, count in rows]
