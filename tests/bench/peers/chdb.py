"""chDB, ClickHouse in the process: SQL; sums in Int128."""

from __future__ import annotations

import json

import chdb

from ..question import Question, Row


def month(question: Question) -> list[Row]:
    """Usage per account × SKU × region."""
    events = f"file('{question.lake}/events/*.parquet', Parquet)"
    answer = chdb.query(question.sql("chdb", events=events, threads=str(question.threads)), "JSONCompactEachRow")
    rows = [json.loads(line) for line in str(answer).splitlines()]
    return [(account, sku, region, int(used), int(count)) for account, sku, region, used, count in rows]
