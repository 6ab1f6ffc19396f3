"""`metering export focus`: a closed month as FinOps FOCUS 1.4 (https://focus.finops.org).

Three files: cost and usage (one row for each snapshot's share of a line, and the line's tax), the billing period,
and invoice details (one row for each line, and its tax). Prepaid money is a payment on account, so BilledCost is the
full cost; how an invoice was settled stands in `x_` columns on its first detail, so that they add up too. Unit
prices are those that were billed; what a list price would have been is not kept, so ListCost is the contracted cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd
from pathlib import Path

import duckdb
import pyarrow as pa

from metering.charges.prices import SKUS
from metering.errors import UsageError, unwritable
from metering.home import Home
from metering.lake import every
from metering.reports.ask import Filter, Reader
from metering.reports.catalog import Report, ReportColumn
from metering.reports.query import Queried
from metering.reports.render import write
from metering.sql import sql
from metering.values import Month, currencies, gb_hours_denominator

DATASETS = ("cost-and-usage", "billing-period", "invoice-detail")
UNNAMED = "metering"
"""Who issues invoices where [issuer] says nothing: FOCUS wants a name."""


def write_focus(home: Home, month: Month, folder: str, format: str) -> Iterator[tuple[Path, int]]:
    """Write the files into a folder, each put in place in one step; their paths and rows.

    Raises UsageError for a month that is not closed.
    """
    reader = Reader(home, Filter(month, month))
    reader.ledger(*(sql("reports", f"focus-{dataset}") for dataset in DATASETS))
    reader.prepare("allocations")
    _check_closed(reader.con, month)
    reader.con.register("given", _given(home))
    reader.con.register("currency_units", _units())
    reader.con.register("skus", pa.table({"sku": list(SKUS), "called": list(SKUS.values())}))
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from None
    for dataset in DATASETS:
        answer = _answer(reader.con.sql(reader.query(f"focus-{dataset}")).to_arrow_table())
        path = Path(folder, f"focus-{dataset}-{month}.{format}")
        part = path.with_name(f".{path.name}.part")
        write(answer, format, str(part))
        part.replace(path)
        yield path, answer.rows.num_rows


def _check_closed(con: duckdb.DuckDBPyConnection, month: Month) -> None:
    closed = [row[0] for row in con.execute(every("closes", "month", order="month")).fetchall()]
    if str(month) not in closed:
        raise UsageError(
            f"{month} is not closed: there are no invoices to export.",
            unchanged="Nothing was written.",
            remedy=f"Closed are {closed[0]} to {closed[-1]}." if closed else "No month is closed yet.",
        )


def _given(home: Home) -> pa.Table:
    """What the home says of itself: the issuer, its gigabyte, and how byte-microseconds become 10^-9 GB-hours."""
    gigabyte = home.config.billing.gigabyte
    numerator, denominator = 10**9, gb_hours_denominator(home.config.billing.gigabyte_bytes)
    common = gcd(numerator, denominator)
    return pa.table(
        {
            "issuer": [home.config.issuer.name or UNNAMED],
            "gb_hours_unit": [f"{gigabyte}-Hours"],
            "numerator": pa.array([numerator // common], pa.int64()),
            "denominator": pa.array([denominator // common], pa.int64()),
        }
    )


def _units() -> pa.Table:
    """Thousandths of a currency in its minor unit: no currency has more than three places."""
    digits = currencies()
    units = pa.array([10 ** (3 - places) for places in digits.values()], pa.int64())
    return pa.table({"currency": list(digits), "thousandths": units})


def _answer(rows: pa.Table) -> Queried:
    columns = (
        ReportColumn(field.name, "decimal" if pa.types.is_decimal(field.type) else "text", "") for field in rows.schema
    )
    return Queried(Report("focus", "FOCUS 1.4", tuple(columns)), rows, {})
