"""The close's immutable files in the lake: invoices, lines and allocations, written from the ledger."""

from __future__ import annotations

import hashlib

import duckdb
import msgspec
import pyarrow as pa
import sqlalchemy as sa

from metering.close.drafting import Drafts, open_meter, periods_of, prices_in_force, rated_prices, rebilled
from metering.close.inputs import Inputs, stored_inputs
from metering.columns import MANY, blocks, rows_of, table_of
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

NAMES = ("invoices", "invoice_lines", "allocations")


def path_of(month: str, name: str) -> str:
    """Where a file of a close lies below the lake."""
    return f"closes/{month}/{name}.parquet"


def content_hash(table: pa.Table) -> str:
    """The SHA-256 over a table's rows, whatever the encoding of the file that holds it."""
    encode = msgspec.json.Encoder().encode
    digest = hashlib.sha256(encode(table.column_names))
    for part in blocks(rows_of(table)):
        digest.update(b"".join(map(encode, part)))
    return digest.hexdigest()


def ledger_invoices(con: sa.Connection, month: str) -> pa.Table:
    """The invoices of a closed month, as the ledger has them."""
    return _read(con, "invoices", metadata().tables["invoices"].c.month == month)


def ledger_lines(con: sa.Connection, month: str) -> pa.Table:
    """The lines of a closed month, as the ledger has them."""
    invoices, lines = metadata().tables["invoices"].c, metadata().tables["invoice_lines"].c
    its = sa.select(invoices.invoice).where(invoices.month == month)
    return _read(con, "invoice_lines", lines.invoice.in_(its))


def _read(con: sa.Connection, name: str, condition: sa.ColumnElement[bool]) -> pa.Table:
    """The rows of a table that meet a condition, in the order of its key."""
    known = schema(name)
    columns = metadata().tables[name].c
    query = sa.select(*(columns[column] for column in known.names)).where(condition)
    ordered = query.order_by(*(columns[column] for column in known.key))
    return table_of(arrow_schema(name), con.execute(ordered, execution_options={"yield_per": MANY}))


def allocations_of(home: Home, con: sa.Connection, drafts: Drafts) -> pa.Table:
    """The allocations of the lines of a close that is being made."""
    return _allocate(home, con, drafts.inputs, drafts.lines, drafts.rated.prices(), drafts.usage)


def missing_files(home: Home, month: str) -> list[str]:
    """The files of a closed month that are missing."""
    there = home.lake.files.names(f"closes/{month}/")
    return [name for name in NAMES if path_of(month, name) not in there]


def write_missing(home: Home, month: str, made: dict[str, pa.Table] | None = None) -> list[str]:
    """Write the files of a closed month that are missing; the names of those written.

    `made` are the very tables that the close has just recorded, each of which is let go once it is written; without
    them they are made again.
    Raises MeteringError if what is computed again differs from what the close recorded.
    """
    missing = missing_files(home, month)
    if not missing:
        return []
    tables = made_again(home, month, missing) if made is None else made
    for name in missing:
        home.lake.write_table(path_of(month, name), tables.pop(name))
        failpoint("close.during_files")
    return missing


def made_again(home: Home, month: str, missing: list[str]) -> dict[str, pa.Table]:
    """The tables of files of a closed month, from the ledger and the events.

    Raises MeteringError if they are not what the close recorded.
    """
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
    return _allocate(home, con, inputs, lines, rated_prices(home, inputs, usage), usage)


def _allocate(
    home: Home,
    con: sa.Connection,
    inputs: Inputs,
    lines: pa.Table,
    rated: pa.Table,
    usage: duckdb.DuckDBPyConnection,
) -> pa.Table:
    month = str(inputs.month)
    months = {*lines.column("month").unique().to_pylist(), month}
    prices = prices_in_force(home, inputs)
    bounds = {**inputs.closed, month: (inputs.period_start, inputs.period_end)}
    meter.set_periods(usage, periods_of({name: bounds[name] for name in months}, prices))
    give(usage, "lines", lines)
    give(usage, "rated", rated)
    _give_issued(home, con, usage, lines, month)
    return allocate(usage)


def _give_issued(home: Home, con: sa.Connection, duck: duckdb.DuckDBPyConnection, lines: pa.Table, month: str) -> None:
    """Define what was billed before for the accounts that have adjustments."""
    from pyarrow import compute as pc

    adjustments = lines.filter(pc.equal(lines.column("kind"), ADJUSTMENT))
    accounts = set(adjustments.column("account_id").to_pylist())
    earlier = [row for row in rows(con, "invoices", account_id=accounts) if row["month"] < month] if accounts else []
    void = set(rebilled(con, month))
    names = [row["invoice"] for row in earlier if row["invoice"] not in void]
    issued = rows(con, "invoice_lines", invoice=names) if names else []
    give(duck, "issued_lines", table_of(arrow_schema("invoice_lines"), (tuple(row.values()) for row in issued)))
    files = [path_of(name, "allocations") for name in sorted({row["month"] for row in earlier})]
    for name in sorted({row["month"] for row in earlier}):
        write_missing(home, name)
    if files:
        give_files(duck, "issued_shares", (home.lake.at(path) for path in files))
    else:
        give(duck, "issued_shares", empty_table("allocations"))
