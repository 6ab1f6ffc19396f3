"""Allocations: each line's amount shared out over the snapshots on it, so that every breakdown adds up exactly."""

from __future__ import annotations

from array import array
from itertools import groupby
from operator import itemgetter

import duckdb
import pyarrow as pa

from metering.columns import whole_rows_of
from metering.lake import answer, compose
from metering.schema import arrow_schema
from metering.sql import sql
from metering.values import share_out


def allocate(con: duckdb.DuckDBPyConnection) -> pa.Table:
    """The allocations of some lines, in the order of `schemas/` key.

    Needs the relations `lines` (the lines), `snapshot_usage` (usage as it is billed), `rated` (what priced each
    stretch of it), and `issued_lines` with `issued_shares` (what was billed of the lines' months before).
    """
    found = answer(con, compose(con, sql("invoices", "line_snapshots"), "usage"))
    amounts = array("q")
    rows = whole_rows_of(found.select(["invoice", "line", "amount_minor", "byte_micros"]))
    for _, line in groupby(rows, key=itemgetter(0, 1)):
        members = list(line)
        amounts.extend(share_out(members[0][2], [byte_micros for *_, byte_micros in members]))
    place = found.column_names.index("amount_minor")
    shared = found.set_column(place, "amount_minor", pa.array(amounts, pa.int64()))
    schema = arrow_schema("allocations")
    return shared.select(schema.names).cast(schema).combine_chunks()
