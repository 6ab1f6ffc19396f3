"""What the months that are not closed will come to: what is alive stays alive, at the prices in force.

Lines are made and money is taken by the close's own functions, so that a month's forecast becomes its invoice as time
passes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb
import pyarrow as pa
import sqlalchemy as sa

from metering.charges.rating import ChargeKey, price_of, rate_usage
from metering.charges.stored import in_force
from metering.close.drafting import Draft, drafts_of, issued_before, periods_of, sums
from metering.close.earlier import earlier_to_rate
from metering.close.inputs import Inputs, fix_inputs
from metering.close.month import without_collector
from metering.close.order import closed_months
from metering.close.settling import Purses
from metering.columns import table_of, whole_rows_of
from metering.home import Home
from metering.invoices.history import History
from metering.invoices.lines import Issued, make_lines, subtotals
from metering.invoices.settlement import set_aside, withhold
from metering.ledger import purses
from metering.payments.gateway import limits_of
from metering.payments.split import chargeable
from metering.state.changes import Pair
from metering.usage import meter
from metering.values import Month

COLUMNS = pa.schema(
    {
        "month": pa.string(),
        "account_id": pa.string(),
        "currency": pa.string(),
        "gb_hours_to_date": pa.decimal128(38, 0),
        "gb_hours_forecast": pa.decimal128(38, 0),
        "amount_to_date": pa.int64(),
        "amount_forecast": pa.int64(),
        "balance": pa.int64(),
        "card_forecast": pa.int64(),
    }
)
Charges = Mapping[ChargeKey, int]


def forecast(
    home: Home,
    duck: duckdb.DuckDBPyConnection,
    first: Month | None,
    last: Month | None,
    *,
    all_events: bool,
) -> pa.Table:
    """A row for each account in each month that is not closed, up to the current one.

    `duck` has this home's usage relations; with `all_events` the state of the lifespans is left aside.
    """
    rows: Iterable[tuple[Any, ...]] = ()
    with home.book.read() as con, without_collector():
        months = [month for month in _pending(home, con, duck) if last is None or month <= last]
        if months:
            inputs = fix_inputs(home, con, months[0])
            earlier = None if all_events else earlier_to_rate(home, con, inputs)
            rows = _rows(home, con, inputs, months, earlier, _rate(home, inputs, duck, months, earlier))
        # Earlier months are settled first even where only later ones are asked for.
        return table_of(COLUMNS, (row for row in rows if row[0] >= str(first or "")))


def _pending(home: Home, con: sa.Connection, duck: duckdb.DuckDBPyConnection) -> list[Month]:
    """The months that are not closed, up to the current one."""
    zone = home.config.billing.zone
    closed = closed_months(con)
    first = closed[-1].plus(1) if closed else home.config.billing.start_month or meter.first_month(duck, zone)
    return [] if first is None else meter.months_between(first, Month.of(home.now, zone))


@dataclass
class _Usage:
    """Usage up to now and up to the end of each month: charges by key, and what accounts used in a month."""

    charges_to_date: dict[ChargeKey, int] = field(default_factory=lambda: defaultdict(int))
    charges: dict[ChargeKey, int] = field(default_factory=lambda: defaultdict(int))
    used_to_date: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    used: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))

    def add(self, month: str, account: str, key: ChargeKey | None, past: int | None, ahead: int) -> None:
        """Add usage up to now, if there is any, and what is still to come; without a key it cannot be billed."""
        used = (month, account)
        if past is not None:
            self.used_to_date[used] += past
            if key is not None:
                self.charges_to_date[key] += past
            ahead += past
        self.used[used] += ahead
        if key is not None:
            self.charges[key] += ahead


def _rate(
    home: Home, inputs: Inputs, duck: duckdb.DuckDBPyConnection, months: list[Month], earlier: set[Pair] | None
) -> _Usage:
    """The usage of each month; of closed months what may have changed since."""
    zone = home.config.billing.zone
    open_months = {str(month): month.bounds(zone) for month in months}
    prices = in_force(inputs.stored_prices, [*inputs.closed, *open_months], inputs.prices, zone)
    currency_of = inputs.currency_of
    rated = _Usage()
    if earlier is None:
        open_months |= inputs.closed
    elif earlier:
        meter.set_periods(duck, periods_of({month: inputs.closed[month] for month, _ in earlier}, prices))
        for charge, byte_micros in rate_usage(sums(duck, sorted(earlier)), currency_of, prices).charges.items():
            rated.add(charge.month, charge.account_id, charge, byte_micros, 0)
    meter.set_periods(duck, periods_of(open_months, prices))
    for month, start, account, sku, region, past, ahead in whole_rows_of(meter.expected_usage(duck).select(_EXPECTED)):
        found = price_of(month, start, account, sku, region, currency_of, prices)
        key = None if isinstance(found, str) else ChargeKey(month, account, sku, region, found[1].price_per_gb_hour)
        rated.add(month, account, key, past, ahead or 0)
    return rated


_EXPECTED = ["month", "period_start", "account_id", "sku", "region", "byte_micros", "remaining"]


def _rows(
    home: Home,
    con: sa.Connection,
    inputs: Inputs,
    months: list[Month],
    earlier: set[Pair] | None,
    rated: _Usage,
) -> Iterator[tuple[Any, ...]]:
    """The rows of the forecast, each in the order of its columns."""
    settling = _Settling(home, con)
    issued = dict(issued_before(con, str(months[0]), earlier))
    currency_of = inputs.currency_of
    for month in months:
        of_month, name, next_day = replace(inputs, month=month), str(month), str(month.plus(1).first_day)
        # What earlier months were billed wrong stands on the next invoice only.
        counted = {*inputs.closed, name} if month == months[0] else {name}
        so_far = subtotals(*_billed(of_month, rated.charges_to_date, issued, counted))
        lines = make_lines(*_billed(of_month, rated.charges, issued, counted))
        drafts = {draft.account_id: draft for draft in drafts_of(of_month, lines.items())}
        issued = {}
        for account in sorted({*drafts, *so_far, *(account for when, account in rated.used if when == name)}):
            draft = drafts.get(account)
            yield (
                name,
                account,
                currency_of.get(account),
                rated.used_to_date.get((name, account), 0),
                rated.used.get((name, account), 0),
                so_far.get(account),
                draft.subtotal_minor if draft else None,
                settling.balance(account) if account in currency_of else None,
                settling.settle(draft, next_day) if draft else None,
            )


def _billed(
    inputs: Inputs, charges: Charges, issued: Mapping[ChargeKey, Issued], months: set[str]
) -> tuple[str, Charges, Mapping[ChargeKey, Issued], Mapping[str, str], int]:
    """What a month's invoices are made of, from the charges of the months that they count."""
    counted = {key: byte_micros for key, byte_micros in charges.items() if key.month in months}
    return str(inputs.month), counted, issued, inputs.currency_of, inputs.gigabyte_bytes


class _Settling:
    """Settles the invoices to come from what accounts hold and have carried, each month from what the last one left."""

    def __init__(self, home: Home, con: sa.Connection) -> None:
        self._con = con
        self._payments = home.config.payments
        self._limits = limits_of(home)
        self._purses = Purses.read(con)
        self._carried = {
            account: sum(one.amount_minor for one in carried) for account, carried in self._purses.carried.items()
        }

    def balance(self, account: str) -> int:
        """What an account has prepaid."""
        return self._purses.balances.get(account, 0)

    def settle(self, draft: Draft, day: str) -> int:
        """What the card would be charged for an invoice of the month before `day`, after credit and balance."""
        account, corrections = draft.account_id, draft.corrections
        history = History(self._con, account) if corrections else None
        if history:
            # What the account has had back already is not given back again.
            corrections = {
                month: amount + withhold(amount, history.limit(month), history.withheld(month))
                for month, amount in corrections.items()
            }
        withheld = sum(corrections.values()) - sum(draft.corrections.values())
        payable = draft.total_minor + self._carried.pop(account, 0) + withheld
        if payable <= 0:
            if history:
                self._return(account, -payable, corrections, history)
            return 0
        left = payable - sum(use.amount_minor for use in self._purses.pay(account, payable, day))
        charge, self._carried[account] = chargeable(left, draft.currency, self._payments, self._limits)
        return charge

    def _return(self, account: str, amount: int, corrections: Mapping[str, int], history: History) -> None:
        """Give back a negative payable; what pays open invoices is no balance for the months after."""
        steps = self._purses.give_back(self._con, account, amount, corrections, history)
        to_balance = sum(source.amount_minor for _, source in steps if source.source != "credit")
        aside = set_aside(to_balance, purses.open_minor(self._con, account))
        self._purses.balances[account] = self.balance(account) + to_balance - sum(part for _, part in aside)
