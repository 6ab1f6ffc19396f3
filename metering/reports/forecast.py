"""What the months that are not closed will come to: what is alive stays alive, at the prices in force.

Lines are made and money is taken by the close's own functions, so that a month's forecast becomes its invoice as time
passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa
import sqlalchemy as sa

from metering.charges.prices import MonthPrices
from metering.charges.rating import ChargeKey, Tariffs, Usage
from metering.charges.stored import in_force
from metering.close.drafting import each_account, earlier_usage, gross_of, issued_before, periods_of
from metering.close.earlier import earlier_to_rate
from metering.close.inputs import Inputs, fix_inputs
from metering.close.month import without_collector
from metering.close.order import closed_months
from metering.close.settling import Purses
from metering.columns import table_of
from metering.home import Home
from metering.invoices.history import History
from metering.invoices.lines import Issued, Owed, owed
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


def forecast(
    home: Home,
    duck: duckdb.DuckDBPyConnection,
    first: Month | None,
    last: Month | None,
    *,
    all_events: bool,
) -> pa.Table:
    """A row for each account in each month that is not closed, up to the current one, account by account.

    `duck` has this home's usage relations; with `all_events` the state of the lifespans is left aside.
    """
    rows: Iterable[tuple[Any, ...]] = ()
    with home.book.read() as con, without_collector():
        months = [month for month in _pending(home, con, duck) if last is None or month <= last]
        if months:
            inputs = fix_inputs(home, con, months[0], hashed=False)
            earlier = None if all_events else earlier_to_rate(home, con, inputs, proved=False)
            rows = _rows(home, con, duck, inputs, months, earlier)
        # Earlier months are settled first even where only later ones are asked for.
        return table_of(COLUMNS, (row for row in rows if row[0] >= str(first or "")))


def _pending(home: Home, con: sa.Connection, duck: duckdb.DuckDBPyConnection) -> list[Month]:
    """The months that are not closed, up to the current one."""
    zone = home.config.billing.zone
    closed = closed_months(con)
    first = closed[-1].plus(1) if closed else home.config.billing.start_month or meter.first_month(duck, zone)
    return [] if first is None else meter.months_between(first, Month.of(home.now, zone))


def _rows(
    home: Home,
    con: sa.Connection,
    duck: duckdb.DuckDBPyConnection,
    inputs: Inputs,
    months: list[Month],
    earlier: set[Pair] | None,
) -> Iterator[tuple[Any, ...]]:
    """The rows of the forecast, each in the order of its columns; `earlier` is what else than `months` is rated."""
    zone = home.config.billing.zone
    bounds = {str(month): month.bounds(zone) for month in months}
    next_days = {str(month): str(month.plus(1).first_day) for month in months}
    first = min(bounds)
    prices = in_force(inputs.stored_prices, [*inputs.closed, *bounds], inputs.prices, zone)
    usage = _usage(duck, inputs, bounds, prices, earlier)
    tariffs = Tariffs(usage.places, prices)
    settling = _Settling(home, con, inputs)
    for account, used, issued in each_account(usage.accounts(), issued_before(con, first, earlier)):
        known = inputs.accounts.get(account)
        currency = known.currency if known else None
        tariff = tariffs.of(account, currency)
        # What earlier months were billed wrong stands on the next invoice only.
        bills = {first: _Bill(issued)} if issued else {}
        for _, number, past, ahead in used:
            place, key, _, _ = tariff[number]
            name = place.month if place.month in bounds else first
            if name not in bills:
                bills[name] = _Bill({})
            bills[name].add(name == place.month, key, past, ahead or 0)
        for name in sorted(bills):
            bill = bills[name]
            so_far, due = bill.owed(name, currency, inputs.gigabyte_bytes) if currency else (None, None)
            if bill.is_used or so_far or due:
                nothing_yet = 0 if due and not bill.used_to_date else None
                yield (
                    name,
                    account,
                    currency,
                    bill.used_to_date,
                    bill.used,
                    so_far.subtotal_minor if so_far else nothing_yet,
                    due.subtotal_minor if due else None,
                    settling.balance(account) if currency else None,
                    settling.settle(account, currency, due, next_days[name]) if currency and due else None,
                )


def _usage(
    duck: duckdb.DuckDBPyConnection,
    inputs: Inputs,
    bounds: Mapping[str, tuple[int, int]],
    prices: Mapping[str, MonthPrices],
    earlier: set[Pair] | None,
) -> Usage:
    """The usage of the open months, up to now and still to come; and of closed ones where it may have changed since."""
    parts = earlier_usage(inputs, duck, prices, earlier or set())
    meter.set_periods(duck, periods_of({**inputs.closed, **bounds} if earlier is None else bounds, prices))
    expected = meter.expected_usage(duck)
    nothing = [pa.nulls(part.num_rows, expected.schema.field("remaining").type) for part in parts]
    before = [part.append_column("remaining", none) for part, none in zip(parts, nothing, strict=True)]
    return Usage(*before, expected, of=("byte_micros", "remaining"))


@dataclass(slots=True)
class _Bill:
    """What an account's invoice of a month is made of, and the month's usage, up to now and to the month's end."""

    issued: Mapping[ChargeKey, Issued]
    charges_to_date: dict[ChargeKey, int] = field(default_factory=dict)
    charges: dict[ChargeKey, int] = field(default_factory=dict)
    used_to_date: int = 0
    used: int = 0
    is_used: bool = False

    def add(self, of_month: bool, key: ChargeKey | None, past: int | None, ahead: int) -> None:
        """Add usage of the month itself, or of an earlier one; without a key it cannot be billed."""
        whole = ahead if past is None else ahead + past
        if key is not None:
            self.charges[key] = self.charges.get(key, 0) + whole
            if past is not None:
                self.charges_to_date[key] = self.charges_to_date.get(key, 0) + past
        if of_month:
            self.is_used = True
            self.used += whole
            self.used_to_date += past or 0

    def owed(self, month: str, currency: str, gigabyte_bytes: int) -> tuple[Owed | None, Owed | None]:
        """What its lines would be if the month ended now, and what they will be."""
        return (
            owed(month, self.charges_to_date, self.issued, currency, gigabyte_bytes),
            owed(month, self.charges, self.issued, currency, gigabyte_bytes),
        )


class _Settling:
    """Settles the invoices to come from what accounts hold and have carried, each month from what the last one left."""

    def __init__(self, home: Home, con: sa.Connection, inputs: Inputs) -> None:
        self._con = con
        self._inputs = inputs
        self._payments = home.config.payments
        self._limits = limits_of(home)
        self._purses = Purses.read(con)
        self._carried = {
            account: sum(one.amount_minor for one in carried) for account, carried in self._purses.carried.items()
        }

    def balance(self, account: str) -> int:
        """What an account has prepaid."""
        return self._purses.balances.get(account, 0)

    def settle(self, account: str, currency: str, owed: Owed, day: str) -> int:
        """What the card would be charged for an invoice of the month before `day`, after credit and balance."""
        total, corrections = gross_of(self._inputs, account, owed)
        payable = total + self._carried.pop(account, 0)
        history = History(self._con, account) if corrections else None
        if history:
            # What the account has had back already is not given back again.
            withheld = {
                month: withhold(amount, history.limit(month), history.withheld(month))
                for month, amount in corrections.items()
            }
            corrections = {month: amount + withheld[month] for month, amount in corrections.items()}
            payable += sum(withheld.values())
        if payable <= 0:
            if history:
                self._return(account, -payable, corrections, history)
            return 0
        left = payable - sum([use.amount_minor for use in self._purses.pay(account, payable, day)])
        charge, carry = chargeable(left, currency, self._payments, self._limits)
        if carry:
            self._carried[account] = carry
        return charge

    def _return(self, account: str, amount: int, corrections: Mapping[str, int], history: History) -> None:
        """Give back a negative payable; what pays open invoices is no balance for the months after."""
        steps = self._purses.give_back(self._con, account, amount, corrections, history)
        to_balance = sum(source.amount_minor for _, source in steps if source.source != "credit")
        aside = set_aside(to_balance, purses.open_minor(self._con, account))
        self._purses.balances[account] = self.balance(account) + to_balance - sum(part for _, part in aside)
