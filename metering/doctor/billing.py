"""What would go wrong at the next close: prices that lack, accounts that nobody knows, cards that must fail."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import duckdb

from metering.accounts.imports import current_accounts
from metering.charges.prices import read_prices
from metering.close.price_guard import check_prices
from metering.close.unbilled import billed_months, unbillable
from metering.doctor.finding import SHOWN, Finding, ok, warn
from metering.home import Home
from metering.lake import connect
from metering.ledger import standing
from metering.usage import meter
from metering.values import Month, format_gb_hours


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
        yield ok(f"{len(rows)} price rows; all usage up to now has a price")


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
        currency_of = {name: row["currency"] for name, row in current_accounts(ledger).items()}
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
        held = {account for account, amount in standing.balances(ledger).items() if amount > 0}
        held |= {credit.account_id for credit in standing.credits(ledger) if credit.remaining_minor > 0}
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
    if not helpless:
        yield ok(f"all {len(using & known.keys())} accounts with usage in {month} have a card or money")


def _few(sentences: list[str]) -> list[str]:
    more = len(sentences) - SHOWN
    return sentences if more <= 0 else [*sentences[:SHOWN], f"{more} more"]
