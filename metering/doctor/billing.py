"""What would go wrong at the next close: prices that lack, accounts that nobody knows, cards that must fail."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb
import sqlalchemy as sa

from metering.accounts.imports import account_currencies, current_accounts
from metering.charges.prices import read_prices
from metering.close.price_guard import check_prices
from metering.close.unbilled import billed_months, unbillable
from metering.doctor.finding import NIGHT, SHOWN, Finding, ok, second, warn
from metering.home import Home
from metering.lake import connect
from metering.ledger import purses
from metering.ledger.tables import metadata
from metering.reports.ask import ask
from metering.sql import sql
from metering.usage import meter
from metering.values import Month, counted, format_gb_hours, format_money, parse_money


def _usage(home: Home) -> duckdb.DuckDBPyConnection:
    con = connect(home.config.engine.memory_limit)
    home.lake.attach_usage(con)
    meter.open_relations(con, home.now, home.config.billing.zone, keep_lifespans=True)
    return con


def prices(home: Home) -> Iterator[Finding]:
    """The price list can be read, changes no closed month, and prices all usage of every month up to now."""
    rows = read_prices(str(home.prices_file)).rows
    check_prices(home)
    gaps = _gaps(home, "no_price")
    yield from (warn(gap, f"Add a row to {home.prices_file.name}.") for gap in _few(gaps))
    if not rows:
        yield warn("the price list is empty", f"Fill in {home.prices_file.name}.")
    elif not gaps:
        yield ok(f"{counted(len(rows), 'price row')}; all usage up to now has a price")


def accounts(home: Home) -> Iterator[Finding]:
    """All usage up to now has an account that pays."""
    gaps = _gaps(home, "unknown_account")
    yield from (warn(gap, "Import the account: `metering accounts import FILE`.") for gap in _few(gaps))
    if not gaps:
        yield ok("all usage up to now has an account")


def _gaps(home: Home, wanted: str) -> list[str]:
    """Usage that cannot be billed for a reason, one sentence per account, SKU, region and month."""
    con = _usage(home)
    with home.book.read() as ledger:
        currency_of = account_currencies(ledger)
    sums: dict[tuple[str, str, str, str], int] = defaultdict(int)
    for reason, usage in unbillable(home, con, currency_of, billed_months(home, con)):
        if reason == wanted:
            sums[usage.account_id, usage.sku, usage.region, usage.month] += usage.byte_micros
    gigabyte = home.config.billing.gigabyte_bytes
    return [
        f"{format_gb_hours(total, gigabyte)} GB-hours of {account} in {month}: {sku} in {region or 'no region'}"
        for (account, sku, region, month), total in sorted(sums.items())
    ]


def cards(home: Home) -> Iterator[Finding]:
    """Accounts with usage this month, and neither card nor money: their payment is sure to fail."""
    zone = home.config.billing.zone
    month = Month.of(home.now, zone)
    con = _usage(home)
    meter.set_periods(con, meter.month_periods([month], zone))
    using = {account for (account,) in meter.usage_of(meter.account_usage(con), "account_id")}
    with home.book.read() as ledger:
        known = current_accounts(ledger)
        held = _with_money(ledger)
    helpless = sorted(
        account
        for account in using & known.keys() - held
        if not (known[account]["payment_method"] and known[account]["payment_customer"])
    )
    for account in _few(helpless):
        yield warn(
            f"{account} uses storage in {month} and has neither card, balance nor credit",
            "Ask for a card or a top-up; then `metering accounts import` or `metering funds add`.",
        )
    refused = _refused(home, known)
    yield from (warn(what, "Ask for another card, then `metering accounts import`.") for what in _few(refused))
    if not helpless and not refused:
        yield ok(f"a card or money stands behind {counted(len(using & known.keys()), 'account')} with usage in {month}")


def _with_money(ledger: sa.Connection) -> set[str]:
    """The accounts that hold balance or credit."""
    held = {account for account, amount in purses.balances(ledger).items() if amount > 0}
    return held | {credit.account_id for credit in purses.credits(ledger) if credit.remaining_minor > 0}


def _refused(home: Home, known: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Accounts whose card was refused for good when it was last tried, and is still the same."""
    payments = metadata().tables["payments"]
    with home.book.read() as con:
        last = {
            row["account_id"]: row for row in con.execute(sa.select(payments).order_by(payments.c.recorded)).mappings()
        }
    return [
        f"{account}'s card was refused for good ({row['reason']}), {second(row['created_at'])}"
        for account, row in sorted(last.items())
        if row["status"] == "declined"
        and not row["retryable"]
        and row["payment_method"] == known.get(account, {}).get("payment_method")
    ]


def money(home: Home) -> Iterator[Finding]:
    """What the months to be closed will come to: who cannot pay it, and where a limit will stop the close."""
    found = [row for row in ask(home, "forecast").to_pylist() if row["currency"]]
    with home.book.read() as ledger:
        known = current_accounts(ledger)
        held = _with_money(ledger)
    lacking: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in found:
        account = known[row["account_id"]]
        has_card = account["payment_method"] and account["payment_customer"]
        if (row["card_forecast"] or 0) > 0 and row["account_id"] in held and not has_card:
            lacking[row["account_id"]].append(row)
    short = [_too_little(account, rows) for account, rows in lacking.items()]
    yield from (warn(what, "Ask for a top-up or a card before the 1st.") for what in _few(short))
    limits = home.config.close.max_invoice
    large = [
        f"{row['account_id']} is to be invoiced {format_money(int(row['amount_forecast']), row['currency'])}"
        f" {row['currency']} before tax for {row['month']}, more than [close] max_invoice: the close will stop"
        for row in found
        if row["currency"] in limits
        and (row["amount_forecast"] or 0) > parse_money(limits[row["currency"]], row["currency"])
    ]
    yield from (
        warn(what, "Look whether it is right; then approve the close, or raise the limit.") for what in _few(large)
    )
    if not short and not large:
        yield ok(f"{counted(len(found), 'invoice')} to come, none beyond what its account can pay or a limit allows")


def _too_little(account: str, forecast: list[dict[str, Any]]) -> str:
    currency, months = forecast[0]["currency"], [row["month"] for row in forecast]
    are = f"{months[0]} is" if len(months) == 1 else f"{months[0]} to {months[-1]} are"
    lack = format_money(sum(int(row["card_forecast"]) for row in forecast), currency)
    return f"{account} has no card, and {lack} {currency} too little for what {are} to cost it"


def sources(home: Home) -> Iterator[Finding]:
    """Every source that a close waits for has sent something since yesterday."""
    required = home.config.close.require_sources
    if not required:
        yield ok("a close waits for no source: [close] require_sources names none")
        return
    con = connect(home.config.engine.memory_limit)
    home.lake.attach(con)
    latest = dict(con.execute(sql("events", "latest_by_source")).fetchall())
    silent = [source for source in required if home.now - latest.get(source, 0) > NIGHT]
    for source in silent:
        since = f"since {second(latest[source])}" if source in latest else "ever"
        yield warn(f"nothing has come from {source} {since}: a close would wait for it", "Look at that producer.")
    if not silent:
        yield ok(f"{counted(len(required), 'source')} that a close waits for: heard of since yesterday")


def _few(sentences: list[str]) -> list[str]:
    more = len(sentences) - SHOWN
    return sentences if more <= 0 else [*sentences[:SHOWN], f"{more} more"]
