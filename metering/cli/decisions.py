"""The commands by which people decide: accounts, funds, prices, quarantine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from metering.cli.app import Context, command, group
from metering.cli.commands import print_report
from metering.errors import DONE

if TYPE_CHECKING:
    pass


# Quarantine


@group("quarantine", invoke_without_command=True)
@click.option("--format", "format", type=click.Choice(["table", "csv", "json"]))
@click.option("--output", metavar="FILE", help="Write to a file.")
def quarantine(context: Context, format: str | None, output: str | None) -> int:
    """Bad lines that nobody has put aside yet; they are never lost."""
    return print_report(context, "quarantine", format=format, output=output)


@command(quarantine, "resolve")
@click.argument("identifier", metavar="ID")
@click.option("--reason", required=True, metavar="R", help="Why it needs no more attention.")
def quarantine_resolve(context: Context, identifier: str, reason: str) -> int:
    """Put one quarantined line aside."""
    from metering.events.resolve import resolve

    home = context.open()
    with home.lock(), home.run(f"quarantine resolve {identifier}") as run:
        resolve(home.lake, home.book, identifier, reason, home.now, run.run)
        run.say(f"resolved {identifier}: {reason}")
        context.say(f"Put aside: {identifier}")
    return DONE


# Accounts


@group("accounts")
def accounts(context: Context) -> None:
    """Who pays."""


@command(accounts, "import")
@click.argument("file")
def accounts_import(context: Context, file: str) -> int:
    """Take accounts from a CSV file: all of it or nothing."""
    from metering.accounts.imports import import_accounts

    home = context.open()
    with home.lock(), home.run(f"accounts import {file}") as run:
        with home.book.write() as con:
            changed, same = import_accounts(con, file, home.now, run.run)
        sentence = f"{changed} accounts new or changed, {same} as they were"
        run.say(sentence)
        context.say(sentence)
    return DONE


# Funds


@group("funds")
def funds(context: Context) -> None:
    """Prepaid and promotional money."""


@command(funds, "import")
@click.argument("file")
def funds_import(context: Context, file: str) -> int:
    """Take top-ups and credits from a CSV file: all of it or nothing."""
    from metering.accounts.imports import import_funds

    home = context.open()
    with home.lock(), home.run(f"funds import {file}") as run:
        with home.book.write() as con:
            added, known = import_funds(con, file, home.now, run.run)
        sentence = f"{added} references added, {known} were in the book"
        run.say(sentence)
        context.say(sentence)
    return DONE


@command(funds, "add")
@click.argument("account")
@click.argument("amount")
@click.option("--reference", required=True, metavar="R", help="Names this money for ever.")
@click.option("--kind", type=click.Choice(["topup", "credit"]), default="topup")
@click.option("--expires", metavar="DATE", default="", help="Last day of a credit.")
@click.option("--currency", metavar="CODE", help="Must be the account's; left out, it is.")
def funds_add(
    context: Context, account: str, amount: str, reference: str, kind: str, expires: str, currency: str | None
) -> int:
    """Add one top-up or credit."""
    from metering.accounts.imports import add_funds, current_accounts
    from metering.tabular import Row

    home = context.open()
    with home.lock(), home.run(f"funds add {account} {amount} --reference {reference}") as run:
        with home.book.write() as con:
            known = current_accounts(con).get(account)
            values = {
                "account_id": account,
                "kind": kind,
                "amount": amount,
                "currency": currency or (known["currency"] if known else ""),
                "reference": reference,
                "expires": expires,
            }
            added, _ = add_funds(con, [Row("funds add", 1, values)], home.now, run.run)
        sentence = f"{reference}: {'added' if added else 'was in the book'}"
        run.say(sentence)
        context.say(sentence)
    return DONE


# Prices


@group("prices")
def prices(context: Context) -> None:
    """What usage costs."""


@command(prices, "check")
def prices_check(context: Context) -> int:
    """Read prices.csv and say whether it would change what closed months were billed at."""
    from metering.charges.prices import read_prices
    from metering.close.price_guard import check_prices

    home = context.open()
    rows = len(read_prices(str(home.prices_file)).rows)
    check_prices(home)
    context.say(f"{rows} price rows; none changes a closed month.")
    return DONE
