"""From inputs and events to lines: what every account is billed, before any money is looked at.

Accounts are gone through one by one, in order, and their lines are kept as columns: a close must not need more
memory than the rows that it writes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
import sqlalchemy as sa

from metering.charges.prices import MonthPrices, PriceKey
from metering.charges.rating import ChargeKey, Tariff, Tariffs, Unbillable, Usage, charges_of, unbillable_of
from metering.charges.stored import in_force
from metering.close.inputs import Inputs, ListDigest
from metering.columns import Columns, blocks, whole_rows_of
from metering.home import Home
from metering.invoices.lines import ADJUSTMENT, USAGE, Issued, Line, Owed, add_tax, make_lines, owed, tax_on
from metering.lake import connect
from metering.ledger.book import MOST_ROWS
from metering.ledger.tables import metadata
from metering.schema import arrow_schema
from metering.schema import table as schema
from metering.state import open_usage
from metering.state.changes import Pair
from metering.usage import meter
from metering.values import format_price

_MOST_NAMES = 1000
"""More accounts than this are not named in a query; its answer is sifted."""
Used = TypeVar("Used")
Of = TypeVar("Of")


@dataclass(slots=True)
class Draft:
    """An invoice without its settlement."""

    number: str
    account_id: str
    currency: str
    lines: list[Line]
    """As they stand on it: with their tax, adjustments last."""
    subtotal_minor: int = field(init=False)
    tax_minor: int = field(init=False)
    total_minor: int = field(init=False)

    def __post_init__(self) -> None:
        self.subtotal_minor = sum([line.amount_minor for line in self.lines])
        self.tax_minor = sum([line.tax_minor for line in self.lines])
        self.total_minor = self.subtotal_minor + self.tax_minor

    @property
    def corrections(self) -> dict[str, int]:
        """What its adjustments come to by month, tax included."""
        if self.lines[-1].kind != ADJUSTMENT:
            return {}
        found: dict[str, int] = defaultdict(int)
        for line in self.lines:
            if line.kind == ADJUSTMENT:
                found[line.month] += line.gross_minor
        return dict(found)


@dataclass
class Drafts:
    """What a close bills, what it cannot bill, and the hash by which a person approves it."""

    inputs: Inputs
    lines: pa.Table
    """The lines as the ledger will have them, in the order of their key."""
    rated: RatedUsage
    totals: dict[str, int]
    """What is invoiced, by currency."""
    byte_micros: int
    """The usage of the closing month that is billed."""
    hash: str
    usage: duckdb.DuckDBPyConnection = field(repr=False)
    """The relations of usage that they were computed from."""

    @property
    def invoices(self) -> Iterator[Draft]:
        """The invoices, each made again from its lines as it is asked for."""
        for number, rows in groupby(whole_rows_of(self.lines), key=itemgetter(0)):
            members = list(rows)
            lines = [
                Line(kind, month, sku, region, Decimal(price), byte_micros, amount, rate, tax)
                for _, _, kind, month, _, sku, region, price, byte_micros, _, amount, rate, tax in members
            ]
            yield Draft(number, members[0][_ACCOUNT], members[0][_CURRENCY], lines)


class RatedUsage:
    """What pricing the usage of all accounts, one after the other, leaves beside their charges."""

    def __init__(self) -> None:
        self._prices = Columns(_RATED)
        self.gaps: dict[str, set[PriceKey]] = defaultdict(set)
        """The keys of the current price list that priced usage of a closed month which its stored lists did not."""
        self.unbillable: list[Unbillable] = []

    def add(self, used: Sequence[tuple[str, int, int]], tariff: Tariff) -> None:
        """Take what an account used."""
        rows = []
        for account, number, _ in used:
            place, key, _, gap = tariff[number]
            if key is not None:
                price = format_price(key.price_per_gb_hour)
                rows.append((place.month, place.period_start, account, place.sku, place.region, price))
            if gap is not None:
                self.gaps[place.month].add(gap)
        self._prices.extend(rows)
        if len(rows) < len(used):
            self.unbillable += unbillable_of(used, tariff)

    def prices(self) -> pa.Table:
        """What priced each stretch of usage."""
        return self._prices.table()


_RATED = pa.schema(
    [
        ("month", pa.string()),
        ("period_start", pa.int64()),
        ("account_id", pa.string()),
        ("sku", pa.string()),
        ("region", pa.string()),
        ("price_per_gb_hour", pa.string()),
    ]
)
_ACCOUNT, _CURRENCY = 4, 9
"""Their places among the columns of a line."""


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
    used = _all_usage(home, inputs, usage) if earlier is None else _usage(home, inputs, usage, earlier)
    issued = issued_before(con, str(inputs.month), earlier)
    rated = RatedUsage()
    lines = _lines(inputs, prices_in_force(home, inputs), used, issued, rated)
    made = Columns(arrow_schema("invoice_lines"))
    digest = ListDigest(inputs.hash)
    totals: dict[str, int] = defaultdict(int)
    byte_micros = 0
    for drafts in blocks(_drafts(inputs, lines)):
        for draft in drafts:
            totals[draft.currency] += draft.total_minor
            byte_micros += sum(line.byte_micros for line in draft.lines if line.kind == USAGE)
            made.extend(line_rows(draft))
        digest.add([_hashed(draft.account_id, line) for draft in drafts for line in draft.lines])
    table = made.table().sort_by([(name, "ascending") for name in schema("invoice_lines").key]).combine_chunks()
    return Drafts(inputs, table, rated, totals, byte_micros, digest.hexdigest(), usage)


def rated_prices(home: Home, inputs: Inputs, usage: duckdb.DuckDBPyConnection) -> pa.Table:
    """What priced each stretch of usage of the closing month and every earlier one, computed again from the events."""
    rated = RatedUsage()
    used = _all_usage(home, inputs, usage)
    tariffs = Tariffs(used.places, prices_in_force(home, inputs))
    for account, members in used.accounts():
        rated.add(list(members), tariffs.of(account, inputs.currency_of.get(account)))
    return rated.prices()


def _all_usage(home: Home, inputs: Inputs, usage: duckdb.DuckDBPyConnection) -> Usage:
    """The usage of the closing month and every earlier one, from the events that the close counts."""
    bounds = {**inputs.closed, str(inputs.month): (inputs.period_start, inputs.period_end)}
    meter.set_periods(usage, periods_of(bounds, prices_in_force(home, inputs)))
    return Usage(meter.account_usage(usage))


def _usage(home: Home, inputs: Inputs, usage: duckdb.DuckDBPyConnection, earlier: set[Pair]) -> Usage:
    """The usage of the closing month, and in earlier ones that of some accounts."""
    prices = prices_in_force(home, inputs)
    parts = earlier_usage(inputs, usage, prices, earlier)
    meter.set_periods(usage, periods_of({str(inputs.month): (inputs.period_start, inputs.period_end)}, prices))
    return Usage(*parts, meter.account_usage(usage))


def earlier_usage(
    inputs: Inputs, usage: duckdb.DuckDBPyConnection, prices: Mapping[str, MonthPrices], earlier: set[Pair]
) -> list[pa.Table]:
    """The usage of some accounts in some closed months, if there are any."""
    if not earlier:
        return []
    meter.set_periods(usage, periods_of({month: inputs.closed[month] for month, _ in earlier}, prices))
    return [meter.account_usage(usage, sorted(earlier))]


def _lines(
    inputs: Inputs,
    prices: Mapping[str, MonthPrices],
    usage: Usage,
    issued: Iterable[tuple[str, dict[ChargeKey, Issued]]],
    rated: RatedUsage,
) -> Iterator[tuple[str, list[Line]]]:
    """The lines of each account that has any; `issued` comes in the order of account ids.

    What rating leaves beside the charges is added to `rated`.
    """
    month, currency_of, gigabyte = str(inputs.month), inputs.currency_of, inputs.gigabyte_bytes
    tariffs = Tariffs(usage.places, prices)
    for account, members, before in each_account(usage.accounts(), issued):
        used, tariff = list(members), tariffs.of(account, currency_of.get(account))
        rated.add(used, tariff)
        charges = charges_of(used, tariff)
        if charges or before:
            due = owed(month, charges, before, currency_of[account], gigabyte)
            if due:
                yield account, make_lines(due)


def each_account(
    used: Iterable[tuple[str, Iterable[Used]]], issued: Iterable[tuple[str, dict[ChargeKey, Issued]]]
) -> Iterator[tuple[str, Iterable[Used], dict[ChargeKey, Issued]]]:
    """What each account has used beside what was issued to it; both come in the order of account ids."""
    waiting = _in_order(issued)
    billed = next(waiting, None)
    for account, members in _in_order(used):
        while billed and billed[0] < account:
            yield billed[0], (), billed[1]
            billed = next(waiting, None)
        if billed and billed[0] == account:
            yield account, members, billed[1]
            billed = next(waiting, None)
        else:
            yield account, members, {}
    while billed:
        yield billed[0], (), billed[1]
        billed = next(waiting, None)


def _in_order(accounts: Iterable[tuple[str, Of]]) -> Iterator[tuple[str, Of]]:
    """What comes by account; ValueError for one that comes again, because it would get two invoices."""
    last = ""
    for one in accounts:
        if one[0] <= last:
            raise ValueError(f"{one[0]} came after {last}: accounts are to come in order")
        last = one[0]
        yield one


def _drafts(inputs: Inputs, lines: Iterable[tuple[str, list[Line]]]) -> Iterator[Draft]:
    """Number and tax the lines of each account."""
    month = str(inputs.month)
    for count, (account, members) in enumerate(lines, 1):
        yield draft_of(inputs, f"INV-{month}-{count:06}", account, members)


def draft_of(inputs: Inputs, number: str, account: str, lines: list[Line]) -> Draft:
    """The draft of the lines of an account, which are taxed: usage now, adjustments as their month was."""
    _, currency, current = inputs.accounts[account]

    def rate_of(line: Line) -> str:
        return current if line.kind == USAGE else inputs.tax_rates.get((line.month, account), current)

    add_tax(lines, rate_of)
    return Draft(number, account, currency, lines)


def gross_of(inputs: Inputs, account: str, owed: Owed) -> tuple[int, dict[str, int]]:
    """What the draft of an account would come to, and its corrections.

    Where there are none, no line needs to know its share of the tax, which is that of one sum.
    """
    if owed.adjustments:
        draft = draft_of(inputs, "", account, make_lines(owed))
        return draft.total_minor, draft.corrections
    return owed.subtotal_minor + tax_on(owed.subtotal_minor, inputs.accounts[account].tax_rate), {}


def line_rows(draft: Draft) -> Iterator[tuple[Any, ...]]:
    """The lines of a draft as the ledger stores them, each in the order of its columns."""
    for count, line in enumerate(draft.lines, 1):
        yield (
            draft.number,
            count,
            line.kind,
            line.month,
            draft.account_id,
            line.sku,
            line.region,
            format_price(line.price_per_gb_hour),
            line.byte_micros,
            draft.currency,
            line.amount_minor,
            line.tax_rate,
            line.tax_minor,
        )


def _hashed(account: str, line: Line) -> tuple[Any, ...]:
    """What of a line goes into the hash of all."""
    return (
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
    )


def issued_before(
    con: sa.Connection, month: str, earlier: set[Pair] | None
) -> Iterator[tuple[str, dict[ChargeKey, Issued]]]:
    """What the lines of all closes before a month add up to, by account and key, in the order of account ids.

    Without those of invoices voided to be rebilled: whether a void counts is decided by when it was made, before the
    close of that month or not. `earlier` names the months and accounts that are looked at; None is all.
    """
    if earlier is not None and not earlier:
        return
    lines, invoices = metadata().tables["invoice_lines"].c, metadata().tables["invoices"].c
    names = ("month", "account_id", "sku", "region", "price_per_gb_hour", "byte_micros", "amount_minor")
    query = (
        sa.select(*(lines[name] for name in names))
        .where(lines.invoice == invoices.invoice, invoices.month < month, lines.invoice.not_in(rebilled(con, month)))
        .order_by(lines.account_id)
    )
    if earlier is not None:
        accounts = {account for _, account in earlier}
        query = query.where(lines.month.in_({month for month, _ in earlier}))
        if len(accounts) <= _MOST_NAMES:
            query = query.where(lines.account_id.in_(accounts))
    found = con.execute(query, execution_options={"yield_per": MOST_ROWS})
    for account, members in groupby(found, key=itemgetter(1)):
        added: dict[ChargeKey, Issued] = defaultdict(lambda: Issued(0, 0))
        for when, _, sku, region, price, byte_micros, amount in members:
            if earlier is None or (when, account) in earlier:
                key = ChargeKey(when, sku, region, Decimal(price))
                before = added[key]
                added[key] = Issued(before.byte_micros + byte_micros, before.amount_minor + amount)
        if added:
            yield account, added


def rebilled(con: sa.Connection, month: str) -> list[str]:
    """The invoices whose lines do not count as issued, because they were voided to be billed again before a close."""
    corrections, decisions = metadata().tables["corrections"], metadata().tables["close_decisions"]
    through = con.scalar(sa.select(decisions.c.corrections_through).where(decisions.c.month == month))
    query = sa.select(corrections.c.invoice).where(corrections.c.kind == "void", corrections.c.rebill == 1)
    if through is not None:
        query = query.where(corrections.c.recorded <= through)
    return list(con.scalars(query))
