"""`metering close`: which months, then for each of them: commit, files, cards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import tzinfo

import duckdb
import sqlalchemy as sa

from metering.accounts.imports import account_currencies
from metering.charges.rating import Unbillable
from metering.close.conflicts import conflicts_since_last_close
from metering.close.files import missing_files, write_missing
from metering.close.month import Closed, close_month
from metering.close.order import closed_months, months_to_close
from metering.close.price_guard import check_prices
from metering.close.unbilled import unbillable
from metering.errors import DONE, NEEDS_PERSON, MeteringError, worst
from metering.events.inbox import take_inbox
from metering.events.sources import waiting
from metering.failpoints import failpoint
from metering.home import Home, Run
from metering.ledger.tables import metadata
from metering.payments.adopt import adopt_held, check_gateway
from metering.payments.collect import charge_invoices
from metering.payments.gateway import limits_of
from metering.payments.split import chargeable
from metering.sql import sql
from metering.state import advance, with_usage
from metering.usage import meter
from metering.values import Month, counted, format_gb_hours, format_money

Say = Callable[[str], None]
MOST_NAMED = 20
"""So many open invoices, or accounts with conflicts, a close names; the others are counted."""


@dataclass(frozen=True)
class Options:
    """What was asked for: a month or every ended one, only to look, or approved by a hash."""

    month: Month | None = None
    dry_run: bool = False
    approve: str | None = None

    @property
    def looks(self) -> bool:
        """Whether a person looks or approves: that is of one month, and of what is there, so nothing new comes in."""
        return self.dry_run or self.approve is not None


@dataclass(frozen=True)
class Result:
    """How a close ended: its exit code, and the hash of the last month that was computed."""

    exit_code: int
    hash: str | None = None


def run_close(home: Home, run: Run, options: Options, say: Say) -> Result:
    """Finish what was cut off, close what is asked for, charge what is due."""
    codes = [DONE]
    last = None
    home.check_lake()
    if options.dry_run:
        home.check_book()
    else:
        check_gateway(home, run)
    if options.month is not None and _is_closed(home, options.month):
        say(f"{options.month} is closed already; nothing of it changes.")
        _count_waiting(home, say)
        return Result(_finish(home, run, options.month, say))
    if options.month is None and not options.dry_run:
        codes += [_finish(home, run, month, say) for month in _unfinished(home)]
    # A dry run writes nothing, not even a lock.
    lock = nullcontext if options.dry_run else home.lock
    with lock():
        _take_inbox(home, run, options, say)
        if not options.dry_run:
            _keep_lifespans(home, say)
        months = _months(home, options, say)
    if not months:
        say("There is nothing to close.")
    # What a person looks at or approves is one month.
    months, later = (months[:1], months[1:]) if options.looks else (months, [])
    if len(months) > 1:
        say(f"Catching up: {', '.join(map(str, months))}, in this order.")
    conflicts = conflicts_since_last_close(home) if months else []
    for month in months:
        with lock():
            home.show(0, 0, f"{month}: usage, lines, books")
            check_prices(home)
            closed = close_month(home, run, month, dry_run=options.dry_run, approve=options.approve)
        _summarize(home, closed, say)
        _tell_conflicts(conflicts, say)
        conflicts = []
        last = closed.hash
        if closed.stopped:
            say(str(closed.stopped))
            codes.append(NEEDS_PERSON)
        if options.dry_run:
            codes.append(_tell_unbillable(home, month, closed.unbillable, say))
        else:
            run.say(f"closed {month}")
            codes.append(_finish(home, run, month, say, closed))
    if later and not options.dry_run:
        say(f"Still to be closed: {', '.join(map(str, later))}. An approval is of one month.")
    return Result(worst(*codes), last)


def _is_closed(home: Home, month: Month) -> bool:
    with home.book.read() as con:
        return month in closed_months(con)


def _unfinished(home: Home) -> list[Month]:
    """Closed months with a file missing, or with an open invoice that is still to be tried or whose fate is unknown.

    What is too much for a card is never tried: its month is not cut off for that.
    """
    with home.book.read() as con:
        closed = closed_months(con)
        found = con.execute(sa.text(sql("close", "cut_off"))).all()
    payments, limits = home.config.payments, limits_of(home)
    cut_off = {
        month
        for month, currency, untried, unknown in found
        if unknown or any(chargeable(untried or 0, currency, payments, limits))
    }
    return [month for month in closed if str(month) in cut_off or missing_files(home, str(month))]


def _take_inbox(home: Home, run: Run, options: Options, say: Say) -> None:
    if options.looks:
        _count_waiting(home, say)
        return
    taken = take_inbox(home.lake, home.inbox, home.now, memory_limit=home.config.engine.memory_limit)
    run.batch = taken.batch
    if taken.files:
        say(f"Inbox: {taken.told}.")
    for left in taken.left():
        say(left[0].upper() + left[1:])


def _keep_lifespans(home: Home, say: Say) -> None:
    """Bring the state up to the last batch; a close does without where that fails."""
    try:
        advance(home.lake, home.now, home.config.engine.memory_limit, say)
    except MeteringError as error:
        say(str(error))


def _count_waiting(home: Home, say: Say) -> None:
    files = waiting(home.inbox)
    if files:
        say(f"{counted(len(files), 'file')} left waiting in the inbox.")


def _months(home: Home, options: Options, say: Say) -> list[Month]:
    """The months to close; says how much usage lies before the beginning of billing, which none of them bills."""
    zone = home.config.billing.zone
    with home.book.read() as con:
        closed = closed_months(con)
    current = Month.of(home.now, zone)

    def months_and_before(usage: duckdb.DuckDBPyConnection) -> tuple[list[Month], int | None]:
        first = meter.first_month(usage, zone)
        months = months_to_close(
            options.month,
            closed=closed,
            start=home.config.billing.start_month,
            used=_used_months(usage, first, current, zone) if first and not closed else [],
            current=current,
            ends_at=(options.month or current).bounds(zone)[1],
        )
        if not months or not first or first >= (start := (closed or months)[0]):
            return months, None
        meter.set_periods(usage, [meter.Period("before", first.bounds(zone)[0], start.bounds(zone)[0])])
        return months, sum(int(value) for value in meter.account_usage(usage).column("byte_micros").to_pylist())

    # The first month is all that is asked once a month is closed.
    limit = home.config.engine.memory_limit
    months, before = with_usage(home.lake, home.now, zone, months_and_before, limit, keep_lifespans=not closed)
    if before is not None:
        hours = format_gb_hours(before, home.config.billing.gigabyte_bytes)
        say(f"Before {(closed or months)[0]} lie {hours} GB-hours; they are never billed.")
    return months


def _used_months(usage: duckdb.DuckDBPyConnection, first: Month, current: Month, zone: tzinfo) -> list[Month]:
    meter.set_periods(usage, meter.month_periods(meter.months_between(first, current), zone))
    return sorted(map(Month.parse, meter.account_usage(usage).column("month").unique().to_pylist()))


def _finish(home: Home, run: Run, month: Month, say: Say, closed: Closed | None = None) -> int:
    """Write the files that are missing, charge what was never tried, and say what is open."""
    home.show(0, 0, f"{month}: files")
    written = write_missing(home, str(month), closed.made if closed else None)
    if written:
        failpoint("close.after_files")
    invoices = metadata().tables["invoices"]
    with home.book.read() as con:
        numbers = list(con.scalars(sa.select(invoices.c.invoice).where(invoices.c.month == str(month))))
    adopted = adopt_held(home, run, numbers)
    outcome = charge_invoices(home, run, numbers)
    outcome.merge(adopted)
    for sentence in outcome.sentences():
        say(f"Cards: {sentence}")
    for event in outcome.notable:
        say(f"Look at {event.invoice}: {event.kind}{f' ({event.reason})' if event.reason else ''}.")
    found = closed.unbillable if closed else _unbillable_now(home, month)
    return worst(_tell_open(home, month, say), _tell_unbillable(home, month, found, say))


def _tell_open(home: Home, month: Month, say: Say) -> int:
    invoices, status = metadata().tables["invoices"], metadata().tables["invoice_status"]
    query = (
        sa.select(invoices.c.invoice, invoices.c.currency, status.c.amount_due_minor)
        .join(status, status.c.invoice == invoices.c.invoice)
        .where(invoices.c.month == str(month), status.c.status == "open")
        .order_by(invoices.c.invoice)
    )
    with home.book.read() as con:
        found = con.execute(query.limit(MOST_NAMED)).all()
        count = con.scalar(sa.select(sa.func.count()).select_from(query.subquery())) or 0
    for invoice, currency, due in found:
        say(f"Open: {invoice}, {format_money(due, currency)} {currency}.")
    if count > len(found):
        say(f"Open: {count - len(found)} more; see `metering report invoices --month {month}`.")
    return NEEDS_PERSON if found else DONE


def _unbillable_now(home: Home, month: Month) -> list[Unbillable]:
    with home.book.read() as con:
        currency_of = account_currencies(con)
    zone, limit = home.config.billing.zone, home.config.engine.memory_limit

    def found(usage: duckdb.DuckDBPyConnection) -> list[Unbillable]:
        return unbillable(home, usage, currency_of, [month])

    return with_usage(home.lake, home.now, zone, found, limit, keep_lifespans=False)


_TO_BILL = {
    "no_price": "Put the price into prices.csv",
    "unknown_account": "Import the account by `metering accounts import`",
}
"""What a person does about usage that cannot be billed."""


def _tell_unbillable(home: Home, month: Month, found: list[Unbillable], say: Say) -> int:
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for reason, usage in found:
        if usage.month == str(month):
            sums[reason, usage.account_id] += usage.byte_micros
    for (reason, account), byte_micros in sorted(sums.items()):
        hours = format_gb_hours(byte_micros, home.config.billing.gigabyte_bytes)
        say(f"Not billed: {hours} GB-hours of {account} in {month}: {reason}.")
    for reason in sorted({reason for reason, _ in sums}):
        say(f"  {_TO_BILL[reason]}, and the next close bills it.")
    return NEEDS_PERSON if sums else DONE


def _tell_conflicts(found: list[tuple[str | None, int]], say: Say) -> None:
    """Name the accounts that conflicts concern: what was refused may have been right."""
    for account, lines in found[:MOST_NAMED]:
        say(f"Conflict: {counted(lines, 'refused line')} about {account or 'no known account'}.")
    if len(found) > MOST_NAMED:
        say(f"Conflict: {counted(len(found) - MOST_NAMED, 'more account')}.")
    if found:
        say("  What came first counts; `metering quarantine` shows what was refused.")


def _summarize(home: Home, closed: Closed, say: Say) -> None:
    """The summary of a close, one line per currency."""
    settled = closed.settled
    say(
        f"{closed.month}: {counted(settled.invoices, 'invoice')},"
        f" {format_gb_hours(closed.byte_micros, home.config.billing.gigabyte_bytes)} GB-hours."
    )
    for currency, total in sorted(settled.invoiced.items()):
        seldom = {"brought forward": settled.brought_forward[currency], "given back": settled.given_back[currency]}
        sums = {
            "invoiced": total,
            **{words: amount for words, amount in seldom.items() if amount},
            "credit used": settled.credit_used[currency],
            "balance used": settled.balance_used[currency],
            "carried": settled.carried[currency],
            "to the cards": settled.to_charge[currency],
        }
        told = (f"{words} {format_money(amount, currency)}" for words, amount in sums.items())
        say(f"  {currency}: {', '.join(told)}.")
    for account, currency, amount in settled.paid_out:
        say(f"  Pay out {format_money(amount, currency)} {currency} to {account}: the account is closed.")
