"""Allocations: each line's amount shared out over the snapshots on it, so that every breakdown adds up exactly."""

from __future__ import annotations

from itertools import groupby

import duckdb
import pyarrow as pa

from metering.lake import compose
from metering.schema import arrow_schema
from metering.sql import sql
from metering.values import share_out


def allocate(con: duckdb.DuckDBPyConnection) -> pa.Table:
    """The allocations of some lines, in the order of `schemas/` key.

    Needs the relations `lines` (the lines), `snapshot_usage` (usage as it is billed), `rated` (what priced each
    stretch of it), and `issued_lines` with `issued_shares` (what was billed of the lines' months before).
    """
    parts: list[pa.RecordBatch] = []
    for (invoice, line), group in groupby(_rows(con), key=lambda row: (row["invoice"], row["line"])):
        members = list(group)
        amounts = share_out(members[0]["amount_minor"], [int(row["byte_micros"]) for row in members])
        parts.append(
            pa.RecordBatch.from_pydict(
                {
                    "invoice": [invoice] * len(members),
                    "line": [line] * len(members),
                    "account_id": [row["account_id"] for row in members],
                    "project_id": [row["project_id"] for row in members],
                    "snapshot_id": [row["snapshot_id"] for row in members],
                    "byte_micros": [row["byte_micros"] for row in members],
                    "currency": [row["currency"] for row in members],
                    "amount_minor": amounts,
                },
                schema=arrow_schema("allocations"),
            )
        )
    return pa.Table.from_batches(parts, schema=arrow_schema("allocations")).combine_chunks()


def _rows(con: duckdb.DuckDBPyConnection):  # type: ignore[no-untyped-def]
    for batch in con.sql(compose(con, sql("invoices", "line_snapshots"), "usage")).to_arrow_table().to_batches():
        yield from batch.to_pylist()
