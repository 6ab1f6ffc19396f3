"""The close's immutable files in the lake: invoices, lines and allocations, written from the ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import sqlalchemy as sa

from metering.charges.rating import Rated
from metering.close.drafting import Drafts, open_meter, periods_of, prices_in_force, rate_all, rebilled
from metering.close.inputs import Inputs, stored_inputs
from metering.close.settling import line_rows
from metering.errors import MeteringError
from metering.failpoints import failpoint
from metering.home import Home
from metering.invoices.allocations import allocate
from metering.lake import give_files
from metering.ledger.book import rows
from metering.schema import arrow_schema
from metering.usage import meter
from metering.values import format_price

NAMES = ("invoices", "invoice_lines", "allocations")


def path_of(month: str, name: str) -> str:
    """Where a file of a close lies below the lake."""
    return f"closes/{month}/{name}.parquet"


def content_hash(table: pa.Table) -> str:
    """The SHA-256 over a table's rows, whatever the encoding of the file that holds it."""
    digest = hashlib.sha256(msgspec.json.encode(table.column_names))
    for batch in table.to_batches(max_chunksize=10_000):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            digest.update(msgspec.json.encode(row))
    return digest.hexdigest()


def ledger_tables(con: sa.Connection, month: str) -> dict[str, pa.Table]:
    """The invoices and lines of a closed month, as the ledger has them."""
    invoices = rows(con, "invoices", month=month)
    lines = rows(con, "invoice_lines", invoice=[row["invoice"] for row in invoices])
    return {"invoices": _table("invoices", invoices), "invoice_lines": _table("invoice_lines", lines)}


def allocations_of(home: Home, con: sa.Connection, inputs: Inputs, drafts: Drafts) -> pa.Table:
    """The allocations of a close that is being made."""
    lines = [row for draft in drafts.invoices for row in line_rows(draft)]
    return _allocate(home, con, inputs, lines, drafts.rated, all_events=drafts.from_all_events)


def unpublished(home: Home, month: str) -> list[str]:
    """The files of a closed month that are missing."""
    return [name for name in NAMES if not (home.lake.root / path_of(month, name)).exists()]


def publish(home: Home, month: str, allocations: pa.Table | None = None) -> list[str]:
    """Write the files of a closed month that are missing; the names of those written.

    `allocations` are handed in by the close that has just made them; else they are computed again.
    Raises MeteringError if what is computed again differs from what the close recorded.
    """
    missing = unpublished(home, month)
    if not missing:
        return []
    with home.book.read() as con:
        recorded = {row["name"]: row["content_hash"] for row in rows(con, "close_files", month=month)}
        made = ledger_tables(con, month)
        if "allocations" in missing:
            if allocations is None:
                allocations = recompute_allocations(home, con, month, made["invoice_lines"])
            made["allocations"] = allocations
    for name in missing:
        if content_hash(made[name]) != recorded[name]:
            raise MeteringError(
                f"The {name} of {month}, computed again, differ from what the close recorded.",
                unchanged="No file was written and no card was charged.",
                remedy="Run `metering verify`: events or ledger have been changed since the close.",
            )
        home.lake.write_table(path_of(month, name), made[name])
        failpoint("close.during_files")
    return missing


def recompute_allocations(home: Home, con: sa.Connection, month: str, lines: pa.Table) -> pa.Table:
    """The allocations of a closed month, from its stored inputs and the events that it counted."""
    inputs = stored_inputs(con, month)
    return _allocate(home, con, inputs, lines.to_pylist(), rate_all(home, inputs))


def _allocate(
    home: Home,
    con: sa.Connection,
    inputs: Inputs,
    lines: list[dict[str, Any]],
    rated: Rated,
    *,
    all_events: bool = True,
) -> pa.Table:
    month = str(inputs.month)
    months = {row["month"] for row in lines} | {month}
    prices = prices_in_force(home, inputs)
    bounds = {**inputs.closed, month: (inputs.period_start, inputs.period_end)}
    duck = open_meter(home, inputs, all_events=all_events)
    meter.set_periods(duck, periods_of({name: bounds[name] for name in months}, prices))
    _give(duck, "lines", _table("invoice_lines", lines))
    _give(duck, "rated", _rated(rated.prices))
    _give_issued(home, con, duck, lines, month)
    return allocate(duck)


def _give_issued(
    home: Home, con: sa.Connection, duck: duckdb.DuckDBPyConnection, lines: list[dict[str, Any]], month: str
) -> None:
    """Define what was billed before for the accounts that have adjustments."""
    accounts = {row["account_id"] for row in lines if row["kind"] == "adjustment"}
    earlier = [row for row in rows(con, "invoices", account_id=accounts) if row["month"] < month] if accounts else []
    void = set(rebilled(con, month))
    names = [row["invoice"] for row in earlier if row["invoice"] not in void]
    _give(duck, "issued_lines", _table("invoice_lines", rows(con, "invoice_lines", invoice=names) if names else []))
    files = [path_of(name, "allocations") for name in sorted({row["month"] for row in earlier})]
    for name in sorted({row["month"] for row in earlier}):
        publish(home, name)
    if files:
        give_files(duck, "issued_shares", (home.lake.root / path for path in files))
    else:
        _give(duck, "issued_shares", arrow_schema("allocations").empty_table())


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


def _table(name: str, records: list[dict[str, Any]]) -> pa.Table:
    schema = arrow_schema(name)
    return pa.table(
        [pa.array([record[field.name] for record in records], field.type) for field in schema], schema=schema
    )


def _give(con: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
    con.register("given_table", table)
    con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM given_table")
    con.unregister("given_table")
