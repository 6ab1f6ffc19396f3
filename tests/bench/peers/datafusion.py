"""DataFusion: SQL; sums in 128-bit decimals."""

from __future__ import annotations

from datafusion import SessionConfig, SessionContext

from ..question import Question, Row


def month(question: Question) -> list[Row]:
    """Usage per account × SKU × region."""
    settings = SessionConfig().with_target_partitions(question.threads)
    settings = settings.set("datafusion.execution.parquet.pushdown_filters", "true")
    context = SessionContext(settings)
    context.register_parquet("events", question.lake + "/events/")
    rows = []
    for batch in context.sql(question.sql("datafusion")).collect():
        columns = [column.to_pylist() for column in batch.columns]
        rows += [(a, s, r, int(used), int(n)) for a, s, r, used, n in zip(*columns, strict=True)]
    return rows
