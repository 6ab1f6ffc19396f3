"""DuckDB with one query written for this one question: how near to it do general relations come?"""

from __future__ import annotations

import duckdb

from ..question import Question, Row


def opened(question: Question) -> duckdb.DuckDBPyConnection:
    """A connection as a user would make it."""
    con = duckdb.connect()
    con.execute(f"SET threads = {question.threads}")
    con.execute("SET preserve_insertion_order = false")
    if question.memory_limit:
        con.execute(f"SET memory_limit = '{question.memory_limit}'")
        con.execute(f"SET temp_directory = '{question.spill}'")
    return con


def month(question: Question) -> list[Row]:
    """Usage per account × SKU × region."""
    query = question.sql("by_hand", files=repr(question.files))
    rows = opened(question).execute(query).fetchall()
    return [(account, sku, region, int(used), count) for account, sku, region, used, count in rows]
