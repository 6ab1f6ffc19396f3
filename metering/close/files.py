"""The close's immutable files in the lake: invoices, lines and allocations, written from the ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from metering.charges.rating import Rated
from metering.close.drafting import Drafts, open_meter, periods_of, prices_in_force, rate_all, rebilled
from metering.close.inputs import Inputs, stored_inputs
from metering.close.settling import line_rows
from metering.errors import MeteringError
from metering.failpoints import failpoint
from metering.home import Home
from metering.invoices.allocations import allocate
from metering.invoices.lines import ADJUSTMENT
from metering.lake import give, give_files
from metering.ledger.book import rows
from metering.ledger.tables import metadata
from metering.schema import arrow_schema, empty_table
from metering.schema import table as schema
from metering.usage import meter
from metering.values import format_price

NAMES = ("invoices", "invoice_lines", "allocations")
_MANY = 10_000
"""Rows that are turned into columns at once."""


def path_of(month: str, name: str) -> str:
    """Where a file of a close lies below the lake."""
    return f"closes/{month}/{name}.parquet"


def content_hash(table: pa.Table) -> str:
    """The SHA-256 over a table's rows, whatever the encoding of the file that holds it."""
    encode = msgspec.json.Encoder().encode
    digest = hashlib.sha256(encode(table.column_names))
    for batch in table.to_batches(max_chunksize=10_000):
        rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
        digest.update(b"".join(map(encode, rows)))
    return digest.hexdigest()


def ledger_invoices(con: sa.Connection, month: str) -> pa.Table:
    """The invoices of a closed month, as the ledger has them."""
    return _read(con, "invoices", metadata().tables["invoices"].c.month == month)


def ledger_lines(con: sa.Connection, month: str) -> pa.Table:
    """The lines of a closed month, as the ledger has them."""
    invoices, lines = metadata().tables["invoices"].c, metadata().tables["invoice_lines"].c
    its = sa.select(invoices.invoice).where(invoices.month == month)
    return _read(con, "invoice_lines", lines.invoice.in_(its))


def lines_of(drafts: Drafts) -> pa.Table:
    """The lines of a close that is being made, as the ledger will have them."""
    made = _table("invoice_lines", chain.from_iterable(map(line_rows, drafts.invoices)))
    return made.sort_by([(name, "ascending") for name in schema("invoice_lines").key]).combine_chunks()


def _read(con: sa.Connection, name: str, condition: sa.ColumnElement[bool]) -> pa.Table:
    """The rows of a table that meet a condition, in the order of its key."""
    known = schema(name)
    columns = metadata().tables[name].c
    query = sa.select(*(columns[column] for column in known.names)).where(condition)
    found = con.execute(query.order_by(*(columns[column] for column in known.key))).partitions(_MANY)
    return _table(name, chain.from_iterable(found))


def allocations_of(home: Home, con: sa.Connection, inputs: Inputs, drafts: Drafts, lines: pa.Table) -> pa.Table:
    """The allocations of the lines of a close that is being made."""
    return _allocate(home, con, inputs, lines, drafts.rated, drafts.usage)


def unpublished(home: Home, month: str) -> list[str]:
    """The files of a closed month that are missing."""
    there = home.lake.files.names(f"closes/{month}/")
    return [name for name in NAMES if path_of(month, name) not in there]


def publish(home: Home, month: str, made: Mapping[str, pa.Table] | None = None) -> list[str]:
    """Write the files of a closed month that are missing; the names of those written.

    `made` are the very tables that the close has just recorded; without them they are made again.
    Raises MeteringError if what is computed again differs from what the close recorded.
    """
    missing = unpublished(home, month)
    if not missing:
        return []
    tables = _made_again(home, month, missing) if made is None else made
    for name in missing:
        home.lake.write_table(path_of(month, name), tables[name])
        failpoint("close.during_files")
    return missing


def _made_again(home: Home, month: str, missing: list[str]) -> dict[str, pa.Table]:
    with home.book.read() as con:
        recorded = {row["name"]: row["content_hash"] for row in rows(con, "close_files", month=month)}
        made = {"invoices": ledger_invoices(con, month), "invoice_lines": ledger_lines(con, month)}
        if "allocations" in missing:
            made["allocations"] = recompute_allocations(home, con, month, made["invoice_lines"])
    for name in missing:
        if content_hash(made[name]) != recorded[name]:
            raise MeteringError(
                f"The {name} of {month}, computed again, differ from what the close recorded.",
                unchanged="No file was written and no card was charged.",
                remedy="Run `metering verify`: events or ledger have been changed since the close.",
            )
    return made


def recompute_allocations(home: Home, con: sa.Connection, month: str, lines: pa.Table) -> pa.Table:
    """The allocations of a closed month, from its stored inputs and the events that it counted."""
    inputs = stored_inputs(con, month)
    usage = open_meter(home, inputs)
    return _allocate(home, con, inputs, lines, rate_all(home, inputs, usage), usage)


def _allocate(
    home: Home,
    con: sa.Connection,
    inputs: Inputs,
    lines: pa.Table,
    rated: Rated,
    usage: duckdb.DuckDBPyConnection,
) -> pa.Table:
    month = str(inputs.month)
    months = {*lines.column("month").unique().to_pylist(), month}
    prices = prices_in_force(home, inputs)
    bounds = {**inputs.closed, month: (inputs.period_start, inputs.period_end)}
    meter.set_periods(usage, periods_of({name: bounds[name] for name in months}, prices))
    give(usage, "lines", lines)
    give(usage, "rated", _rated(rated.prices))
    _give_issued(home, con, usage, lines, month)
    return allocate(usage)


def _give_issued(home: Home, con: sa.Connection, duck: duckdb.DuckDBPyConnection, lines: pa.Table, month: str) -> None:
    """Define what was billed before for the accounts that have adjustments."""
    adjustments = lines.filter(pc.equal(lines.column("kind"), ADJUSTMENT))
    accounts = set(adjustments.column("account_id").to_pylist())
    earlier = [row for row in rows(con, "invoices", account_id=accounts) if row["month"] < month] if accounts else []
    void = set(rebilled(con, month))
    names = [row["invoice"] for row in earlier if row["invoice"] not in void]
    issued = rows(con, "invoice_lines", invoice=names) if names else []
    give(duck, "issued_lines", _table("invoice_lines", (tuple(row.values()) for row in issued)))
    files = [path_of(name, "allocations") for name in sorted({row["month"] for row in earlier})]
    for name in sorted({row["month"] for row in earlier}):
        publish(home, name)
    if files:
        give_files(duck, "issued_shares", (home.lake.at(path) for path in files))
    else:
        give(duck, "issued_shares", empty_table("allocations"))


def _rated(prices: list[Any]) -> pa.Table:
    columns: Mapping[str, list[Any]] = {
        "month": [usage.month for usage, _ in prices],
        "period_start": [usage.period_start for usage, _ in prices],
        "account_id": [usage.account_id for usage, _ in prices],
        "sku": [usage.sku for usage, _ in prices],
        "region": [usage.region for usage, _ in prices],
        "price_per_gb_hour": [format_price(price) for _, price in prices],
    }
    kinds = [pa.string(), pa.int64(), pa.string(), pa.string(), pa.string(), pa.string()]
    return pa.table([pa.array(v, k) for v, k in zip(columns.values(), kinds, strict=True)], names=list(columns))


def _table(name: str, records: Iterable[Sequence[Any]]) -> pa.Table:
    """The table of rows whose values come in the order of the columns."""
    fields = arrow_schema(name)
    listed = iter(records)
    batches = []
    while part := list(islice(listed, _MANY)):
        columns = zip(zip(*part, strict=True), fields, strict=True)
        arrays = [pa.array(values, field.type) for values, field in columns]
        batches.append(pa.record_batch(arrays, schema=fields))
    return pa.Table.from_batches(batches, fields).combine_chunks()
