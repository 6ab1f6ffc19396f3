"""From inputs and events to lines: what every account is billed, before any money is looked at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise

import duckdb
import pyarrow as pa
import sqlalchemy as sa

from metering.charges.prices import MonthPrices
from metering.charges.rating import ChargeKey, Rated, UsageSum, rate_usage
from metering.charges.stored import in_force
from metering.close.inputs import Inputs, digest
from metering.home import Home
from metering.invoices.lines import USAGE, Issued, Line, add_tax, make_lines
from metering.lake import connect
from metering.ledger.tables import metadata
from metering.state import open_usage
from metering.state.changes import Pair
from metering.usage import meter
from metering.values import format_price

_MOST_NAMES = 1000
"""More accounts than this are not named in a query; its answer is sifted."""


@dataclass(slots=True)
class Draft:
    """An invoice without its settlement."""

    number: str
    account_id: str
    currency: str
    lines: list[Line]
    subtotal_minor: int
    tax_minor: int

    @property
    def total_minor(self) -> int:
        return self.subtotal_minor + self.tax_minor


@dataclass
class Drafts:
    """What a close bills, what it cannot bill, and the hash by which a person approves it."""

    inputs: Inputs
    rated: Rated
    invoices: list[Draft]
    hash: str
    usage: duckdb.DuckDBPyConnection = field(repr=False)
    """The relations of usage that they were computed from."""


def open_meter(home: Home, inputs: Inputs, *, all_events: bool = True) -> duckdb.DuckDBPyConnection:
    """The usage relations over the events up to the close's last batch, with time standing at the month's end.

    Only a close that is being made may take them from the state; what is computed again comes from the events.
    """
    con = connect(home.config.engine.memory_limit)
    zone, through = home.config.billing.zone, inputs.events_through
    open_usage(con, home.lake, inputs.period_end, zone, through, all_events=all_events, keep_lifespans=False)
    return con


def periods_of(bounds: Mapping[str, tuple[int, int]], prices: Mapping[str, MonthPrices]) -> list[meter.Period]:
    """The given months, cut where a price may change."""
    found = []
    for month, (start, end) in sorted(bounds.items()):
        edges = [start, *sorted(prices[month].cuts(start, end)), end]
        found += [meter.Period(month, *edge) for edge in pairwise(edges)]
    return found


def prices_in_force(home: Home, inputs: Inputs) -> dict[str, MonthPrices]:
    """What prices the closing month and each earlier one."""
    months = [*inputs.closed, str(inputs.month)]
    return in_force(inputs.stored_prices, months, inputs.prices, home.config.billing.zone)


def draft(home: Home, con: sa.Connection, inputs: Inputs, earlier: set[Pair] | None = None) -> Drafts:
    """Meter, rate and bill: the lines of every account.

    `earlier` are the earlier months and accounts in which anything can have changed since the last close; None
    computes all of them from all events, as one that is only looked at again must be.
    """
    usage = open_meter(home, inputs, all_events=earlier is None)
    rated = rate_all(home, inputs, usage) if earlier is None else _rate(home, inputs, usage, earlier)
    lines = make_lines(
        str(inputs.month),
        rated.charges,
        issued_before(con, str(inputs.month), earlier),
        inputs.currency_of,
        inputs.gigabyte_bytes,
    )
    return Drafts(inputs, rated, list(drafts_of(inputs, lines)), _hash(inputs, lines), usage)


def rate_all(home: Home, inputs: Inputs, usage: duckdb.DuckDBPyConnection) -> Rated:
    """Meter and rate the closing month and every earlier one, from the events that the close counts."""
    prices = prices_in_force(home, inputs)
    bounds = {**inputs.closed, str(inputs.month): (inputs.period_start, inputs.period_end)}
    meter.set_periods(usage, periods_of(bounds, prices))
    return rate_usage(sums(usage), inputs.currency_of, prices)


def _rate(home: Home, inputs: Inputs, usage: duckdb.DuckDBPyConnection, earlier: set[Pair]) -> Rated:
    """Meter and rate the closing month, and of earlier ones only some accounts."""
    prices = prices_in_force(home, inputs)
    found: list[UsageSum] = []
    if earlier:
        bounds = {month: inputs.closed[month] for month, _ in earlier}
        meter.set_periods(usage, periods_of(bounds, prices))
        found += sums(usage, sorted(earlier))
    meter.set_periods(usage, periods_of({str(inputs.month): (inputs.period_start, inputs.period_end)}, prices))
    return rate_usage([*found, *sums(usage)], inputs.currency_of, prices)


def sums(con: duckdb.DuckDBPyConnection, pairs: Sequence[Pair] | None = None) -> Iterator[UsageSum]:
    """The usage in the periods set, as rating takes it; of all, or of some months and accounts."""
    return usage_sums(meter.account_usage(con, pairs))


def usage_sums(usage: pa.Table) -> Iterator[UsageSum]:
    """Usage per account × SKU × region × period, as rating takes it."""
    for batch in usage.select(list(UsageSum._fields)).to_batches():
        for *key, byte_micros in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            month, start, end, account, sku, region = key
            yield UsageSum(month, start, end, account, sku, region, int(byte_micros))


def drafts_of(inputs: Inputs, lines: Mapping[str, list[Line]]) -> Iterable[Draft]:
    """Number and tax the lines of each account."""
    month, currency_of = str(inputs.month), inputs.currency_of
    for count, (account, members) in enumerate(lines.items(), 1):
        current = inputs.accounts[account]["tax_rate"]

        def rate_of(line: Line, account: str = account, current: str = current) -> str:
            return current if line.kind == USAGE else inputs.tax_rates.get((line.month, account), current)

        tax = add_tax(members, rate_of)
        subtotal = sum(line.amount_minor for line in members)
        yield Draft(f"INV-{month}-{count:06}", account, currency_of[account], members, subtotal, tax)


def _hash(inputs: Inputs, lines: Mapping[str, list[Line]]) -> str:
    return digest(
        [
            inputs.hash,
            [
                [
                    account,
                    line.kind,
                    line.month,
                    line.sku,
                    line.region,
                    format_price(line.price_per_gb_hour),
                    str(line.byte_micros),
                    line.amount_minor,
                    line.tax_rate,
                    line.tax_minor,
                ]
                for account, members in lines.items()
                for line in members
            ],
        ]
    )


def issued_before(con: sa.Connection, month: str, earlier: set[Pair] | None = None) -> dict[ChargeKey, Issued]:
    """What the lines of all closes before a month add up to by key, without those of invoices voided to be rebilled.

    Whether a void counts is decided by when it was made: before the close of that month or not.
    `earlier` names the months and accounts that are looked at; None is all.
    """
    if earlier is not None and not earlier:
        return {}
    lines, invoices = metadata().tables["invoice_lines"], metadata().tables["invoices"]
    query = (
        sa.select(lines)
        .join(invoices, invoices.c.invoice == lines.c.invoice)
        .where(invoices.c.month < month, lines.c.invoice.not_in(rebilled(con, month)))
    )
    if earlier is not None:
        accounts = {account for _, account in earlier}
        query = query.where(lines.c.month.in_({month for month, _ in earlier}))
        if len(accounts) <= _MOST_NAMES:
            query = query.where(lines.c.account_id.in_(accounts))
    found: dict[ChargeKey, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for row in con.execute(query).mappings():
        if earlier is not None and (row["month"], row["account_id"]) not in earlier:
            continue
        key = ChargeKey(
            row["month"],
            row["account_id"],
            row["sku"],
            row["region"],
            Decimal(row["price_per_gb_hour"]),
        )
        byte_micros, amount = found[key]
        found[key] = (byte_micros + row["byte_micros"], amount + row["amount_minor"])
    return {key: Issued(*sums) for key, sums in found.items()}


def rebilled(con: sa.Connection, month: str) -> list[str]:
    """The invoices whose lines do not count as issued, because they were voided to be billed again before a close."""
    corrections, decisions = metadata().tables["corrections"], metadata().tables["close_decisions"]
    through = con.scalar(sa.select(decisions.c.corrections_through).where(decisions.c.month == month))
    query = sa.select(corrections.c.invoice).where(corrections.c.kind == "void", corrections.c.rebill == 1)
    if through is not None:
        query = query.where(corrections.c.recorded <= through)
    return list(con.scalars(query))
